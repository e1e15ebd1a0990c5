"""Which networks an address is in, by hash and not by walk: one set of prefixes for each length that occurs.

An IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) is that IPv4 address.
RFC 4291 section 2.5.5.2 (mapped addresses), section 2.5.4 (why IPv6 clients are counted by /64).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from dcrouter.config.match import Network
from dcrouter.wire.mapped import unmapped

_MAPPED_LENGTH = 96
"""Bits of the prefix that makes an IPv6 address a mapped one."""


class Networks:
    """A set of networks; `covers` costs one look-up for each prefix length among them, however many there are."""

    __slots__ = ("_v4", "_v6")

    def __init__(self, networks: Iterable[Network]) -> None:
        v4: dict[int, set[int]] = {}
        v6: dict[int, set[int]] = {}
        for network in networks:
            first, length = int(network.network_address), network.prefixlen
            family, bits = (v6, 128) if isinstance(network, IPv6Network) else (v4, 32)
            if length >= _MAPPED_LENGTH and ":" not in unmapped(str(network.network_address)):
                family, bits, first, length = v4, 32, first & 0xFFFFFFFF, length - _MAPPED_LENGTH
            family.setdefault(bits - length, set()).add(first >> (bits - length))
        # (bits to drop, prefixes), the widest networks first: they are the likeliest to answer.
        self._v4 = sorted(v4.items(), reverse=True)
        self._v6 = sorted(v6.items(), reverse=True)

    def covers(self, address: str) -> bool:
        """Whether `address`, as text and without brackets, is in one of them; ValueError where it is no IP address."""
        packed = _packed(address)
        number = int.from_bytes(packed, "big")
        return any(number >> dropped in prefixes for dropped, prefixes in (self._v4 if len(packed) == 4 else self._v6))


def count_key(address: str) -> str:
    """Whom a counter counts: an IPv4 address whole, an IPv6 one by its /64; ValueError where it is no IP address."""
    packed = _packed(address)
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed)
    return inet_ntop(AF_INET6, packed[:8] + bytes(8)) + "/64"


def network_key(address: str, v6: int = 48) -> str:
    """The network that an address is counted in where neighbours count together: an IPv4 /24, an IPv6 one of `v6` bits
    (a multiple of 8); ValueError where it is no IP address.
    """
    packed = _packed(address)
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed[:3] + bytes(1)) + "/24"
    return inet_ntop(AF_INET6, packed[: v6 // 8] + bytes(16 - v6 // 8)) + f"/{v6}"


def _packed(address: str) -> bytes:
    """4 or 16 bytes."""
    plain = unmapped(address)
    try:
        if ":" not in plain:
            return inet_pton(AF_INET, plain)
        return inet_pton(AF_INET6, plain.partition("%")[0])
    except OSError as error:
        raise ValueError(f"{address!r} is not an IP address") from error
