"""What the operator wrote about connections: routes, what they match, what they do, and the defaults.

All values are frozen; durations are float seconds (0 = none), ports ints, networks `ipaddress` values.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config.forms import (
    DomainPattern,
    Duration,
    Name,
    Port,
    ReadPath,
    ServerName,
    TargetHost,
    TargetPort,
    counted,
    key,
    one_of,
)
from dcrouter.config.lines import RedirectTemplate
from dcrouter.config.tls import CertificateChoice
from dcrouter.wire.http1 import check_header

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
MailKind = Literal["smtp", "submission", "smtps"]
Balance = Literal["round-robin", "failover"]
TlsMode = Literal["passthrough", "terminate", "terminate-and-reencrypt"]


@frozen(kw_only=True)
class PortRange:
    """One port as a number, or a range of ports with both its ends."""

    start: Port = field(metadata=key("The first port.", name="from"))
    end: Port = field(metadata=key("The last port.", name="to"))


@frozen(kw_only=True)
class Target:
    """Where bytes go: {host, port} or {unix}.

    On a route `port` None means `preserve`.
    """

    host: TargetHost | None = field(
        default=None, metadata=key("Name or address; names are resolved again and again, and kept fresh.")
    )
    port: TargetPort = field(default=None, metadata=key("Port of the target.", default="required beside `host`"))
    unix: ReadPath | None = field(default=None, metadata=key("Path of a unix socket, instead of host and port."))


@frozen(kw_only=True)
class Forward:
    """Bytes go to one of `targets`; when its connect fails, up to `retries` others are tried."""

    type: Literal["forward"] = field(default="forward", metadata=key("What the route does."))
    targets: tuple[Target, ...] = field(
        metadata=key(
            "Where connections go; `target: {...}` is short for a list of one.",
            single="target",
            nonempty="it would lead nowhere",
        )
    )
    balance: Balance = field(default="round-robin", metadata=key("How one of several targets is picked."))
    retries: Annotated[int, counted(0, 100)] = field(
        default=2, metadata=key("How many other targets are tried when a connect fails.")
    )


@frozen(kw_only=True)
class Redirect:
    """One HTTP request is answered with a redirect, and the connection closed."""

    type: Literal["redirect"] = field(default="redirect", metadata=key("What the route does."))
    to: RedirectTemplate = field(
        metadata=key("The new URL; {host} (without port) {port} {path} {query} {uri} are those of the request.")
    )
    status: Annotated[int, one_of(301, 302, 303, 307, 308)] = field(default=308, metadata=key("Status of the answer."))


@frozen(kw_only=True)
class Respond:
    """One HTTP request is answered with this, and the connection closed."""

    type: Literal["respond"] = field(default="respond", metadata=key("What the route does."))
    status: Annotated[int, counted(200, 599)] = field(default=200, metadata=key("Status of the answer."))
    body: str = field(default="", metadata=key("The answer's body, sent as UTF-8."))
    headers: dict[str, str] = field(
        factory=dict,
        metadata=key("Headers of the answer; `content-type` is plain text unless it is said here.", entry=check_header),
    )


@frozen(kw_only=True)
class Block:
    """Nobody gets through: an answer on http routes, a plain close on tcp ones. A `status` makes it an http route.

    `answers`: `status` was written.
    """

    type: Literal["block"] = field(default="block", metadata=key("What the route does."))
    status: Annotated[int, counted(400, 599)] = field(
        default=403, metadata=key("Status of the answer on http routes; tcp routes are closed.")
    )
    answers: bool = False


@frozen(kw_only=True)
class MailHandover:
    """The connection goes to the mail server, which does the TLS of it."""

    type: Literal["mail"] = field(default="mail", metadata=key("What the route does."))
    kind: MailKind = field(
        default="smtp",
        metadata=key("How mail is spoken: `smtp` and `submission` with STARTTLS, `smtps` with TLS at once."),
    )


Action = Forward | Redirect | Respond | Block | MailHandover


@frozen(kw_only=True)
class Match:
    """All conditions hold together; within one, any of its values.

    None means that the condition is not set.
    """

    ports: tuple[PortRange, ...] = field(
        metadata=key("Ports: a number, a list, ranges as {from, to}.", scalar=True, nonempty="no port would match")
    )
    listen: tuple[Address, ...] | None = field(
        default=None,
        metadata=key(
            "Addresses on which the ports are bound.", nonempty="no address would match", default="the global `listen`"
        ),
    )
    domains: tuple[DomainPattern, ...] | None = field(
        default=None,
        metadata=key(
            "Names that the client asks for: SNI, or Host on plain HTTP.",
            nonempty="no name would match",
            default="every name, and none",
        ),
    )
    client_ips: tuple[Network, ...] | None = field(
        default=None,
        metadata=key("Networks that clients come from.", nonempty="no client would match", default="everyone"),
    )


@frozen(kw_only=True)
class UpstreamTls:
    """How the target is spoken to under terminate-and-reencrypt."""

    verify: bool = field(default=True, metadata=key("Whether the target must prove who it is."))
    server_name: ServerName | None = field(
        default=None, metadata=key("The name the target must prove, and its SNI.", default="the target's host")
    )
    ca: ReadPath | None = field(
        default=None, metadata=key("PEM file of the authorities to trust.", default="the system's")
    )


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
    upstream: UpstreamTls = field(
        factory=UpstreamTls, metadata=key("TLS towards the target (terminate-and-reencrypt only).")
    )


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
    tls: RouteTls | None = field(default=None, metadata=key("How TLS is met.", default="plain"))
    action: Action = field(metadata=key("What happens to them."))
    security: Security = field(factory=Security, metadata=key("Who may connect, in addition to `defaults.security`."))
    timeouts: Timeouts = field(factory=Timeouts, metadata=key("Each one replaces that of `defaults.timeouts`."))


@frozen(kw_only=True)
class Defaults:
    """What holds for every route that does not say otherwise."""

    target: Target | None = field(
        default=None, metadata=key("Where a connection goes that no route matches.", default="it is closed")
    )
    timeouts: Timeouts = field(factory=Timeouts, metadata=key("Timeouts of every route."))
    security: Security = field(factory=Security, metadata=key("Counts all routes together, but for mail."))


@frozen(kw_only=True)
class ProxyProtocol:
    """Peers that MUST begin with a PROXY v1 or v2 header; from others a header is never interpreted."""

    from_: tuple[Network, ...] = field(
        metadata=key("Networks of the peers.", name="from", nonempty="no peer would match")
    )
    ports: tuple[PortRange, ...] | None = field(
        default=None, metadata=key("On which ports.", scalar=True, nonempty="no port would match", default="all")
    )
    timeout: Duration = field(default=3.0, metadata=key("For the whole header."))


@frozen(kw_only=True)
class Http:
    """What holds for HTTP on every route."""

    request_timeout: Duration = field(default=30.0, metadata=key("For a request's head."))
