"""IPv4 addresses that are written as IPv6, as sockets, proxies and operators do: `::ffff:192.0.2.1`.

Everywhere in dcrouter such an address is that IPv4 address; this is the one place that says so. RFC 4291 section
2.5.5.2.
"""

from __future__ import annotations

from ipaddress import IPv6Address


def unmapped(address: str) -> str:
    """A mapped address as IPv4, in any of its spellings and with any zone; everything else as it is, unchecked."""
    if address[:1] not in ("0", ":") or ":" not in address:
        return address  # every mapped address begins with a zero group
    dotted = address[7:]
    if address.startswith("::ffff:") and ":" not in dotted and dotted.replace(".", "").isdecimal() and "." in dotted:
        return dotted  # as sockets write it
    try:
        found = IPv6Address(address).ipv4_mapped
    except ValueError:
        return address
    return address if found is None else str(found)
