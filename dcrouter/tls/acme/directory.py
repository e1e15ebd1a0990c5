"""What a CA offers and where: its directory (RFC 8555 section 7.1.1), and the names of well-known ones."""

from __future__ import annotations

from attrs import frozen

from dcrouter.tls.acme.answers import Fields

DIRECTORIES = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
    "zerossl": "https://acme.zerossl.com/v2/DV90",
}


def directory_url(name: str) -> str:
    """Of one of DIRECTORIES; a URL is its own."""
    return DIRECTORIES.get(name, name)


@frozen(kw_only=True)
class Directory:
    """`key_change`, `revoke`, `renewal_info`: None where the CA does not offer it. `profiles`: name -> description."""

    new_nonce: str
    new_account: str
    new_order: str
    revoke: str | None
    key_change: str | None
    renewal_info: str | None
    terms: str | None
    external_account_required: bool
    profiles: dict[str, str]

    @classmethod
    def of(cls, fields: Fields) -> Directory:
        meta = fields.object("meta")

        def maybe(key: str) -> str | None:
            return fields.url(key) if key in fields else None

        profiles = meta.object("profiles").plain()
        return cls(
            new_nonce=fields.url("newNonce"),
            new_account=fields.url("newAccount"),
            new_order=fields.url("newOrder"),
            revoke=maybe("revokeCert"),
            key_change=maybe("keyChange"),
            renewal_info=maybe("renewalInfo"),
            terms=meta.text("termsOfService") if "termsOfService" in meta else None,
            external_account_required=meta.flag("externalAccountRequired"),
            profiles={str(name): str(text) for name, text in profiles.items()},
        )
