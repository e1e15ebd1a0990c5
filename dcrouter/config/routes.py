"""What the operator wrote about connections: routes with all that belongs to them, and the defaults.

All values are frozen; durations are float seconds (0 = none).
"""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config.actions import Action
from dcrouter.config.conditions import AlpnName
from dcrouter.config.forms import Duration, Name, counted, key
from dcrouter.config.http import Hsts
from dcrouter.config.match import Match, Network, PortRange
from dcrouter.config.security import RouteSecurity, Security
from dcrouter.config.targets import SimpleTarget, UpstreamTls
from dcrouter.config.tls import CertificateChoice, ClientAuth

TlsMode = Literal["passthrough", "terminate", "terminate-and-reencrypt"]
Protocol = Literal["tcp", "http"]


@frozen(kw_only=True)
class RouteTls:
    """How TLS is met on this route; without it the route is plain."""

    mode: TlsMode = field(
        metadata=key("Passed on untouched by SNI, ended here, or ended here and begun anew towards the target.")
    )
    certificate: CertificateChoice = field(
        default="auto",
        metadata=key("`auto`: of certificates.files, else of the internal CA; `internal`; or {cert, key}."),
    )
    alpn: tuple[AlpnName, ...] | None = field(
        default=None,
        metadata=key(
            "Protocols that clients may choose by ALPN, best first; a tcp route offers the target what was chosen.",
            nonempty="leave it out for the usual",
            default="http/1.1 on http routes, none on tcp ones",
        ),
    )
    client_auth: ClientAuth | None = field(
        default=None,
        metadata=key("Whether clients must show a certificate, and whose.", default="they are not asked for one"),
    )
    hsts: Hsts | None = field(
        default=None,
        metadata=key("Whether browsers are told to come by https only (http routes).", default="they are not"),
    )
    upstream: UpstreamTls = field(
        factory=UpstreamTls, metadata=key("TLS towards the target (terminate-and-reencrypt only).")
    )


@frozen(kw_only=True)
class Timeouts:
    """Durations; `0s` means none."""

    hello: Duration = field(default=5.0, metadata=key("For what a route needs to be found: ClientHello or Host."))
    connect: Duration = field(default=5.0, metadata=key("For a connect to one target."))
    idle: Duration = field(default=3600.0, metadata=key("Without a byte either way."))
    half_closed: Duration = field(default=600.0, metadata=key("For the other direction after one has ended."))
    lifetime: Duration = field(default=0.0, metadata=key("For a whole connection."))
    drain: Duration = field(default=30.0, metadata=key("For connections to end when the service stops."))


@frozen(kw_only=True)
class Route:
    """One way for connections to go.

    `defaults` are already applied: a route's own timeout replaces the default, one by one, and `block` lists add up.
    """

    name: Name = field(metadata=key("Unique; in logs, metrics and `dcrouter routes`."))
    enabled: bool = field(default=True, metadata=key("`false`: as if the route were not there."))
    priority: Annotated[int, counted(-(1 << 31))] = field(default=0, metadata=key("Higher ones are asked first."))
    match: Match = field(metadata=key("Which connections are meant."))
    protocol: Protocol | None = field(
        default=None,
        metadata=key(
            "`http`: each request is looked at; `tcp`: bytes pass untouched.",
            default="`http` where a route of the same port and name uses a key of HTTP, else `tcp`",
        ),
    )
    tls: RouteTls | None = field(default=None, metadata=key("How TLS is met.", default="plain"))
    action: Action = field(metadata=key("What happens to them."))
    security: RouteSecurity = field(
        factory=RouteSecurity,
        metadata=key("Who may connect, and which requests are let through, in addition to `defaults.security`."),
    )
    timeouts: Timeouts = field(factory=Timeouts, metadata=key("Each one replaces that of `defaults.timeouts`."))


@frozen(kw_only=True)
class Defaults:
    """What holds for every route that does not say otherwise."""

    target: SimpleTarget | None = field(
        default=None, metadata=key("Where a connection goes that no route matches.", default="it is closed")
    )
    timeouts: Timeouts = field(factory=Timeouts, metadata=key("Timeouts of every route."))
    security: Security = field(factory=Security, metadata=key("Counts all routes together, but for mail."))


@frozen(kw_only=True)
class ProxyProtocol:
    """Peers that MUST begin with a PROXY v1 or v2 header; from others a header is never interpreted.

    `only`: nobody else may connect.
    """

    from_: tuple[Network, ...] = field(
        metadata=key("Networks of the peers.", name="from", nonempty="no peer would match")
    )
    ports: tuple[PortRange, ...] | None = field(
        default=None, metadata=key("On which ports.", scalar=True, nonempty="no port would match", default="all")
    )
    timeout: Duration = field(default=3.0, metadata=key("For the whole header."))
    only: bool = False


@frozen(kw_only=True)
class Http:
    """What holds for HTTP on every route."""

    trusted_proxies: tuple[Network, ...] = field(
        default=(),
        metadata=key("Networks of proxies whose X-Forwarded-* and Forwarded are believed.", default="nobody"),
    )
    request_timeout: Duration = field(default=30.0, metadata=key("For a request's head."))
    keep_alive: Duration = field(default=75.0, metadata=key("Between requests."))
