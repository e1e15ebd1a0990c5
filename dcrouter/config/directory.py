"""What the operator wrote about those who vouch for accounts: a directory (LDAP), an issuer of tokens (OAuth 2)."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import unquote

from attrs import field, frozen

from dcrouter.config import names
from dcrouter.config.forms import Form, Secret, key
from dcrouter.config.lines import Line
from dcrouter.config.units import shown
from dcrouter.config.urls import UrlText, split_url
from dcrouter.wire.ldapfilter import USER, names_user, parse

_SCHEMA = {"type": "string", "minLength": 1}
LdapScheme = Literal["ldap", "ldaps"]
USUAL: dict[LdapScheme, int] = {"ldap": 389, "ldaps": 636}
_SCHEMES: dict[str, LdapScheme] = {one: one for one in USUAL}


@frozen(kw_only=True)
class LdapServer:
    """Where a directory is. `ldaps` is TLS from the first byte; `ldap` becomes TLS by StartTLS, but on loopback."""

    scheme: LdapScheme
    host: str
    port: int

    @property
    def clear(self) -> bool:
        """Whether passwords go to it without TLS: to nobody but this host itself."""
        return self.scheme == "ldap" and (
            self.host in ("localhost", "::1") or (names.is_address(self.host) and self.host.startswith("127."))
        )

    def __str__(self) -> str:
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def _ldap_url(text: str) -> LdapServer:
    word, _, place = text.partition("://")
    place = place.removesuffix("/")
    scheme = _SCHEMES.get(word)
    if scheme is None or not place or any(mark in place for mark in "/?#@"):
        raise ValueError(f"{shown(text)} is not a directory such as ldaps://ldap.example.com: a host, and a port")
    host, port = names.host_port(place)
    return LdapServer(scheme=scheme, host=names.target_host(host), port=port or USUAL[scheme])


def _filter(text: str) -> str:
    if not names_user(parse(text)):
        raise ValueError(f"the filter does not say {USER}, so that everybody would be the same one")
    return text


@frozen
class Introspection:
    """Where an issuer is asked about tokens, and who asks. `client`: its id, None where it needs none."""

    url: str
    client: str | None = None
    secret: Secret = field(factory=lambda: Secret(""))

    def __str__(self) -> str:
        """Without the client."""
        return self.url


def _introspection(text: str) -> Introspection:
    scheme, _, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    login, at, place = authority.rpartition("@")
    url = f"{scheme}://{place}{slash}{path}"
    try:
        split_url(url)
    except ValueError:
        # Never shown: a secret may be in it.
        raise ValueError("not a URL such as https://client:secret@id.example.com/introspect") from None
    if not at:
        return Introspection(url)
    client, colon, secret = (unquote(part, errors="strict") for part in login.partition(":"))
    if not client or not colon or not (client + secret).isprintable():
        raise ValueError("before the URL's @ stand a client's id and its secret, percent-encoded, with a colon between")
    return Introspection(url, client, Secret(secret))


LdapUrl = Annotated[
    LdapServer,
    Form(
        name="ldap",
        words="a directory: `ldaps://ldap.example.com`, `ldap://ldap.example.com:389` (StartTLS)",
        read=_ldap_url,
        schema={"type": "string", "pattern": "^ldaps?://"},
    ),
]
LdapFilter = Annotated[
    str, Form(name="ldap_filter", words="a filter with `{user}`: `(mail={user})`", read=_filter, schema=_SCHEMA)
]
IntrospectionUrl = Annotated[
    Introspection,
    Form(
        name="introspection",
        words="a URL, with a client and its secret where they are needed: `https://client:secret@id.example.com/check`",
        read=_introspection,
        schema={"type": "string", "pattern": "^https?://"},
    ),
]


@frozen(kw_only=True)
class Ldap:
    """A directory (RFC 4511) with the accounts' passwords: an entry is looked for, and tried with the password."""

    url: LdapUrl = field(
        metadata=key("Where it is; without TLS only on this host, and its certificate is looked at (system's trust).")
    )
    bind_dn: str | None = field(default=None, metadata=key("Who looks.", default="nobody: anonymously"))
    bind_password: Secret | None = field(
        default=None, metadata=key("Its password: text, `${ENV}` or `{file: path}`.", default="none")
    )
    base_dn: str = field(metadata=key("Below what."))
    filter: LdapFilter = field(
        default="(mail={user})", metadata=key("What is looked for; exactly one entry must be found.")
    )


@frozen(kw_only=True)
class OAuth2:
    """An issuer of tokens, which clients bring by OAUTHBEARER (RFC 7628) or XOAUTH2."""

    jwks_url: UrlText | None = field(
        default=None,
        metadata=key("Where it tells the public keys that it signs tokens (JWT) with.", default="one of these two"),
    )
    introspection_url: IntrospectionUrl | None = field(
        default=None, metadata=key("Where it is asked about each token (RFC 7662).", default="one of these two")
    )
    issuer: Line | None = field(default=None, metadata=key("What `iss` must be.", default="it is not looked at"))
    audience: tuple[Line, ...] = field(
        default=(), metadata=key("Of these `aud` must name one.", scalar=True, default="it is not looked at")
    )
    user_claim: Line = field(default="email", metadata=key("What in a token is the name of the account."))
