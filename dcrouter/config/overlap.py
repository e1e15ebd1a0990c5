"""Whether routes can mean the same connection: ports, addresses and clients that have something in common, and names.

All of it is known without a byte from the client, except names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network

from dcrouter.config.match import Address, Network, PortRange
from dcrouter.config.names import REGEX, name_expression
from dcrouter.config.regex import may_meet


def ports_overlap(one: Sequence[PortRange], other: Sequence[PortRange]) -> bool:
    """Whether some port is in both."""
    return any(a.start <= b.end and b.start <= a.end for a in one for b in other)


def listen_overlap(one: Sequence[Address], other: Sequence[Address]) -> bool:
    """Whether some connection can arrive at both; 0.0.0.0 and :: stand for every address of their family."""
    return any(
        a == b or (a.version == b.version and (a.is_unspecified or b.is_unspecified)) for a in one for b in other
    )


def clients_overlap(one: Sequence[Network] | None, other: Sequence[Network] | None) -> bool:
    """Whether some client is in both; None: everyone."""
    if one is None or other is None:
        return True
    return any(_networks_overlap(a, b) for a in one for b in other)


def _networks_overlap(a: Network, b: Network) -> bool:
    if isinstance(a, IPv4Network):
        return isinstance(b, IPv4Network) and a.overlaps(b)
    return isinstance(b, IPv6Network) and a.overlaps(b)


Interval = tuple[int, int]
"""First and last, both included."""

_BEFORE_V6 = 1 << 32
_LAST = _BEFORE_V6 + (1 << 128) - 1


def client_intervals(clients: Sequence[Network] | None) -> list[Interval]:
    """Networks as numbers on one line, IPv6 behind IPv4; None: all of it."""
    if clients is None:
        return [(0, _LAST)]
    offset = {4: 0, 6: _BEFORE_V6}
    return [
        (
            int(network.network_address) + offset[network.version],
            int(network.broadcast_address) + offset[network.version],
        )
        for network in clients
    ]


def overlapping(ones: Sequence[Sequence[Interval]], others: Sequence[Sequence[Interval]]) -> Iterator[tuple[int, int]]:
    """(index in `ones`, index in `others`) of those with an overlap, each once: a sweep, for there may be thousands."""
    starts = sorted(
        (start, end, side, at)
        for side, given in enumerate((ones, others))
        for at, intervals in enumerate(given)
        for start, end in intervals
    )
    opened: tuple[dict[int, int], dict[int, int]] = ({}, {})
    seen: set[tuple[int, int]] = set()
    for start, end, side, at in starts:
        facing = opened[1 - side]
        for passed in [one for one, last in facing.items() if last < start]:
            del facing[passed]
        for one in facing:
            pair = (at, one) if side == 0 else (one, at)
            if pair not in seen:
                seen.add(pair)
                yield pair
        opened[side][at] = max(end, opened[side].get(at, 0))


class NameSet:
    """Domain patterns of many routes, asked whether a pattern has a name in common with any of them.

    Of a regular expression that is known for exact names, and guessed for wildcards: there it is taken to have one.
    """

    def __init__(self) -> None:
        self._any = False
        self._exact: set[str] = set()
        self._one: set[str] = set()
        self._many: set[str] = set()
        self._parents: set[str] = set()
        self._ancestors: set[str] = set()
        self._expressions: set[str] = set()

    def add(self, patterns: Iterable[str] | None) -> None:
        """`patterns`: a route's domains, normalised; None: every name."""
        if patterns is None:
            self._any = True
            return
        for pattern in patterns:
            if pattern.startswith(REGEX):
                self._expressions.add(pattern)
            elif pattern.startswith("**."):
                suffix = pattern[3:]
                self._many.add(suffix)
                # `**.b` has names directly under b, and under every name that ends in b.
                self._parents.add(suffix)
                self._ancestors.update((suffix, *_ancestors(suffix)))
            elif pattern.startswith("*."):
                suffix = pattern[2:]
                self._one.add(suffix)
                self._parents.add(suffix)
                self._ancestors.update((suffix, *_ancestors(suffix)))
            else:
                self._exact.add(pattern)
                above = _ancestors(pattern)
                self._parents.update(above[:1])
                self._ancestors.update(above)

    def meets(self, patterns: Iterable[str] | None) -> bool:
        """Whether one of `patterns` (None: every name) has a name in common with one that was added."""
        if patterns is None:
            return self._any or bool(self._ancestors or self._exact or self._expressions)
        return self._any or any(map(self._meets, patterns))

    def _meets(self, pattern: str) -> bool:
        if pattern.startswith(REGEX):
            matches = name_expression(pattern).fullmatch
            return (
                bool(self._one or self._many)
                or any(may_meet(pattern, other) for other in self._expressions)
                or any(matches(name) is not None for name in self._exact)
            )
        if pattern.startswith("*") and self._expressions:
            return True
        if pattern.startswith("**."):
            suffix = pattern[3:]
            return suffix in self._ancestors or any(above in self._many for above in (suffix, *_ancestors(suffix)))
        if pattern.startswith("*."):
            suffix = pattern[2:]
            return suffix in self._parents or any(above in self._many for above in (suffix, *_ancestors(suffix)))
        above = _ancestors(pattern)
        under = bool(above) and (above[0] in self._one or any(one in self._many for one in above))
        return (
            under
            or pattern in self._exact
            or any(name_expression(one).fullmatch(pattern) is not None for one in self._expressions)
        )


def _ancestors(name: str) -> list[str]:
    """`a.b.c` -> [`b.c`, `c`]."""
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels))]
