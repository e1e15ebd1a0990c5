"""What the operator wrote about connections: routes, what they match, what they do, and the defaults.

All values are frozen; durations are float seconds (0 = none), ports ints, networks `ipaddress` values.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Literal

from attrs import field, frozen

from dcrouter.config.tls import CertificateChoice

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
MailKind = Literal["smtp", "submission", "smtps"]
Balance = Literal["round-robin", "failover"]
TlsMode = Literal["passthrough", "terminate", "terminate-and-reencrypt"]


@frozen(kw_only=True)
class PortRange:
    """One port, or all from `start` to `end` with both ends; in YAML a number or {from, to}."""

    start: int
    end: int


@frozen(kw_only=True)
class Target:
    """Where bytes go: {host, port} or {unix}. `host` is a name or an address; `port` None on a route means `preserve`."""

    host: str | None = None
    port: int | None = None
    unix: Path | None = None


@frozen(kw_only=True)
class Forward:
    """Bytes go to one of `targets`; when its connect fails, up to `retries` others are tried."""

    type: Literal["forward"] = "forward"
    targets: tuple[Target, ...]
    balance: Balance = "round-robin"
    retries: int = 2


@frozen(kw_only=True)
class Redirect:
    """One HTTP request is answered with `status` and a Location made from `to` ({host} {port} {path} {query} {uri})."""

    type: Literal["redirect"] = "redirect"
    to: str
    status: int = 308


@frozen(kw_only=True)
class Respond:
    """One HTTP request is answered with this."""

    type: Literal["respond"] = "respond"
    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(factory=dict)


@frozen(kw_only=True)
class Block:
    """Nobody gets through: `status` on http routes, a plain close on tcp ones."""

    type: Literal["block"] = "block"
    status: int = 403


@frozen(kw_only=True)
class MailHandover:
    """The connection goes to the mail server, which does the TLS of it."""

    type: Literal["mail"] = "mail"
    kind: MailKind = "smtp"


Action = Forward | Redirect | Respond | Block | MailHandover


@frozen(kw_only=True)
class Match:
    """All conditions hold together; within one, any of its values. None means that the condition is not set."""

    ports: tuple[PortRange, ...]
    listen: tuple[Address, ...] | None = None
    domains: tuple[str, ...] | None = None
    client_ips: tuple[Network, ...] | None = None


@frozen(kw_only=True)
class UpstreamTls:
    """How the target is spoken to under terminate-and-reencrypt. `server_name` None: the target's host; `ca` None: the system's."""

    verify: bool = True
    server_name: str | None = None
    ca: Path | None = None


@frozen(kw_only=True)
class RouteTls:
    mode: TlsMode
    certificate: CertificateChoice = "auto"
    upstream: UpstreamTls = field(factory=UpstreamTls)


@frozen(kw_only=True)
class Security:
    """Who may connect, and how often at once. None means no limit of that kind; `block` beats `allow`."""

    allow: tuple[Network, ...] | None = None
    block: tuple[Network, ...] = ()
    max_connections: int | None = None
    max_connections_per_ip: int | None = None


@frozen(kw_only=True)
class Timeouts:
    """Seconds; 0 means none."""

    hello: float = 5.0
    connect: float = 5.0
    idle: float = 3600.0
    half_closed: float = 600.0
    lifetime: float = 0.0
    drain: float = 30.0


@frozen(kw_only=True)
class Route:
    """One entry of `routes`, with `defaults` already applied (a route's own timeout replaces the default, one by one)."""

    name: str
    enabled: bool = True
    priority: int = 0
    match: Match
    tls: RouteTls | None = None
    action: Action
    security: Security = field(factory=Security)
    timeouts: Timeouts = field(factory=Timeouts)


@frozen(kw_only=True)
class Defaults:
    """`target` None: a connection that no route matches is closed."""

    target: Target | None = None
    timeouts: Timeouts = field(factory=Timeouts)
    security: Security = field(factory=Security)


@frozen(kw_only=True)
class ProxyProtocol:
    """Peers within `from_` MUST begin with a PROXY header, on `ports` (None: all), within `timeout` seconds."""

    from_: tuple[Network, ...]
    ports: tuple[PortRange, ...] | None = None
    timeout: float = 3.0


@frozen(kw_only=True)
class Http:
    """`request_timeout`: seconds for a request's head."""

    request_timeout: float = 30.0
