"""What a CA offers and where: its directory (RFC 8555 section 7.1.1)."""

from __future__ import annotations

from attrs import frozen

from dcrouter.tls.acme.answers import Fields


@frozen(kw_only=True)
class Directory:
    """`key_change`, `revoke`, `renewal_info`: None where the CA does not offer it. `profiles`: name -> description."""

    new_nonce: str
    new_account: str
    new_order: str
    revoke: str | None
    key_change: str | None
    renewal_info: str | None
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
            external_account_required=meta.flag("externalAccountRequired"),
            profiles={str(name): str(text) for name, text in profiles.items()},
        )
