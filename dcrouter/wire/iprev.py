"""Whether the name of a client's address leads back to it. RFC 8601 2.7.3, 3."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal, NamedTuple

from dcrouter.errors import Unreachable
from dcrouter.wire.asking import Asking, Question, is_askable
from dcrouter.wire.mapped import unmapped

MAX_NAMES = 10
"""Names of one address that are followed, as SPF does (RFC 7208 4.6.4)."""


class Iprev(NamedTuple):
    """`name`: one that leads back, of a pass. `permerror`: the address has no name."""

    result: Literal["pass", "fail", "temperror", "permerror"]
    name: str = ""


def iprev(address: str) -> Asking[Iprev]:
    """Never raises."""
    own = ip_address(unmapped(address))
    try:
        found = yield Question(own.reverse_pointer, "PTR")
        names = [name for name in found.values[:MAX_NAMES] if is_askable(name)]
        if not names:
            return Iprev("permerror")
        for name in names:
            addresses = yield Question(name, "AAAA" if own.version == 6 else "A")
            if any(ip_address(one) == own for one in addresses.values):
                return Iprev("pass", name)
    except Unreachable:
        return Iprev("temperror")
    return Iprev("fail")
