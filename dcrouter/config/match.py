"""What a route asks of a connection: ports, addresses, names, clients.

Addresses and networks are `ipaddress` values, ports ints.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import field, frozen

from dcrouter.config.forms import DomainPattern, Port, key

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@frozen(kw_only=True)
class PortRange:
    """One port as a number, or a range of ports with both its ends."""

    start: Port = field(metadata=key("The first port.", name="from"))
    end: Port = field(metadata=key("The last port.", name="to"))


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
