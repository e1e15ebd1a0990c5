"""Who may connect, and how often."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from attrs import field, fields, frozen

from dcrouter.config.forms import Duration, Form, ReadPath, Secret, counted, key
from dcrouter.config.http import HeaderName
from dcrouter.config.lines import Line
from dcrouter.config.match import Network
from dcrouter.config.rates import Rate
from dcrouter.config.units import shown
from dcrouter.config.urls import UrlText

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")


@frozen(kw_only=True)
class MinRate:
    """The least that a connection must move, both ways together, to be kept: a floor, not a total time."""

    bytes: Annotated[int, counted(1)] = field(metadata=key("Bytes in each period."))
    over: Duration = field(metadata=key("The period."))


@frozen(kw_only=True)
class Security:
    """Who may connect, and how often at once; `block` beats `allow`. IPv6 clients are counted by /64."""

    allow: tuple[Network, ...] | None = field(
        default=None,
        metadata=key("Networks that may connect.", nonempty="nobody could connect", default="everyone"),
    )
    block: tuple[Network, ...] = field(default=(), metadata=key("Networks that may not; lists of both places add up."))
    max_connections: Annotated[int, counted(1)] | None = field(
        default=None, metadata=key("Connections at once.", default="by the descriptor limit")
    )
    max_connections_per_ip: Annotated[int, counted(1)] | None = field(
        default=None, metadata=key("Connections at once from one address.", default="no limit")
    )
    connection_rate_per_ip: Rate | None = field(
        default=None,
        metadata=key("New connections from one address in a time; only those let in are counted.", default="no limit"),
    )
    min_rate: MinRate | None = field(
        default=None,
        metadata=key("A connection that moves less is ended; silence is below every floor.", default="no floor"),
    )


def _rate_key(text: str) -> str:
    word, colon, name = text.partition(":")
    if text != "client_ip" and (word != "header" or _HEADER.fullmatch(name) is None):
        raise ValueError(f"{shown(text)} is not client_ip or header:NAME, such as header:x-api-key")
    return f"{word}{colon}{name.lower()}"


RateKey = Annotated[
    str,
    Form(
        name="rate_key",
        words="`client_ip`, or `header:` and the name of a header",
        read=_rate_key,
        schema={"type": "string", "pattern": "^(client_ip|header:.+)$"},
    ),
]


@frozen(kw_only=True)
class RequestRate(Rate):
    """How often requests may come; those beyond it are answered 429, with Retry-After, and not counted."""

    key: RateKey = field(
        default="client_ip",
        metadata=key(
            "Whose requests are counted together: those of one address (IPv6: of one /64; behind "
            "`http.trusted_proxies` of the client that they tell), or those with the same value of a header, and "
            "without it of one address."
        ),
    )


@frozen(kw_only=True)
class BasicAuth:
    """Users with passwords, which browsers ask for: only inside TLS is nobody told them."""

    users_file: ReadPath = field(
        metadata=key("Lines `name:hash` with bcrypt or argon2id, as `htpasswd -B` makes them; watched.")
    )
    realm: Line = field(default="restricted", metadata=key("What browsers show beside the question."))


Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


@frozen(kw_only=True)
class Jwt:
    """Signed tokens that clients bring as `Authorization: Bearer`; each must say when it runs out (`exp`)."""

    secret: Secret | None = field(
        default=None, metadata=key("What the issuer signs with (HS256 ...).", default="one of these three")
    )
    public_key: ReadPath | None = field(
        default=None, metadata=key("PEM file of the issuer's public key; watched.", default="one of these three")
    )
    jwks_url: UrlText | None = field(
        default=None,
        metadata=key("Where the issuer tells its public keys; fetched again and again.", default="one of these three"),
    )
    algorithms: tuple[Algorithm, ...] = field(
        metadata=key("Those that are taken, whatever a token says.", nonempty="no token would be taken")
    )
    issuer: str | None = field(default=None, metadata=key("What `iss` must be.", default="it is not looked at"))
    audience: tuple[str, ...] = field(
        default=(),
        metadata=key("Of these `aud` must name one.", scalar=True, default="it is not looked at"),
    )
    leeway: Duration = field(default=30.0, metadata=key("How far clocks may be apart."))


@frozen(kw_only=True)
class ForwardAuth:
    """Another service is asked, before each request, whether it may go on; while it does not answer, none does."""

    url: UrlText = field(metadata=key("Where it is asked: by GET, with the request's headers and X-Forwarded-*."))
    copy_headers: tuple[HeaderName, ...] = field(
        default=(), metadata=key("Headers of its answer that the target gets, instead of the client's own.")
    )
    timeout: Duration = field(default=5.0, metadata=key("For its whole answer."))


@frozen(kw_only=True)
class RouteSecurity(Security):
    """Who may connect to this route, and on http routes, which requests are let through; `block` beats `allow`."""

    request_rate: tuple[RequestRate, ...] = field(
        default=(),
        metadata=key(
            "Requests in a time; of several limits, each one counts.",
            scalar=True,
            nonempty="leave it out for no limit",
            default="no limit",
        ),
    )
    basic_auth: BasicAuth | None = field(
        default=None, metadata=key("Whether a user must log in with a password.", default="nobody has to")
    )
    jwt: Jwt | None = field(
        default=None, metadata=key("Whether a client must bring a signed token.", default="nobody has to")
    )
    forward_auth: ForwardAuth | None = field(
        default=None, metadata=key("Whether somebody else is asked about each request.", default="nobody is")
    )

    @classmethod
    def of(cls, security: Security) -> RouteSecurity:
        """With what `security` says, and no more."""
        return cls(**{one.name: getattr(security, one.name) for one in fields(Security)})
