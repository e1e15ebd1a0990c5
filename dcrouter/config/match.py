"""What a route asks of a connection and of its requests: ports, addresses, names, clients, paths, times.

Addresses and networks are `ipaddress` values, ports ints.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import field, frozen

from dcrouter.config.conditions import AlpnName, Method, check_header_condition
from dcrouter.config.forms import DomainPattern, Port, key
from dcrouter.config.paths import PathText
from dcrouter.config.times import TimeWindow
from dcrouter.config.versions import TlsVersion

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

CLIENT_IPS = key("Networks that clients come from.", nonempty="no client would match", default="everyone")
PATH = key("The whole path of a request.", nonempty="no path would match", default="every path")
METHODS = key("Methods of a request.", nonempty="no method would match", default="every method")
HEADERS = key(
    "Headers of a request, all of them: each an exact value, or `re:` and what the whole value matches.",
    nonempty="leave it out to match every request",
    entry=check_header_condition,
)
"""Keys of conditions that a route and a target of it may have."""


@frozen(kw_only=True)
class PortRange:
    """One port as a number, or a range of ports with both its ends."""

    start: Port = field(metadata=key("The first port.", name="from"))
    end: Port = field(metadata=key("The last port.", name="to"))

    def __contains__(self, port: int) -> bool:
        return self.start <= port <= self.end


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
    alpn: tuple[AlpnName, ...] | None = field(
        default=None,
        metadata=key(
            "Protocols of which a TLS client offers one by ALPN.",
            nonempty="no offer would match",
            default="every offer, and none",
        ),
    )
    tls_versions: tuple[TlsVersion, ...] | None = field(
        default=None,
        metadata=key(
            "The newest version that a TLS client offers.", nonempty="no version would match", default="every version"
        ),
    )
    client_ips: tuple[Network, ...] | None = field(default=None, metadata=CLIENT_IPS)
    path: tuple[PathText, ...] | None = field(default=None, metadata=PATH)
    methods: tuple[Method, ...] | None = field(default=None, metadata=METHODS)
    headers: dict[str, str] | None = field(default=None, metadata=HEADERS)
    time: TimeWindow | None = field(
        default=None,
        metadata=key("When the route holds.", nonempty="leave it out to match at all times", default="always"),
    )

    @property
    def asks_request(self) -> bool:
        """Whether something is asked that only a request tells, beside its Host."""
        return self.path is not None or self.methods is not None or self.headers is not None

    @property
    def asks_hello(self) -> bool:
        """Whether something is asked that only a ClientHello tells, beside its name."""
        return self.alpn is not None or self.tls_versions is not None
