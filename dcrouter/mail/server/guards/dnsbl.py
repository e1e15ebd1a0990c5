"""email.dnsbl: DNS lists of clients that are hardly mail servers, and what their verdicts add up to. RFC 5782.

A client is looked up in all lists at once, when it says EHLO; its recipients wait for that, LIMIT seconds at most from
then on. A list that has not answered by then, or cannot, says nothing. Answers are remembered by the resolver as their
TTL says, and the sum for a while, so that many connections of one client ask once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from ipaddress import IPv4Address, ip_address
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from dcrouter.config.guards import Dnsbl
from dcrouter.net.resolver import Resolver
from dcrouter.wire.mapped import unmapped

LIMIT = 5.0
"""Seconds that a client waits for lists."""
REMEMBERED = 60.0
"""Seconds for which a sum is believed."""
MAX_CLIENTS = 10_000

KEY_LENGTH = 20
"""Characters of a label from which on it is taken for a customer's key: those are neither told nor logged."""


class Sum(NamedTuple):
    """`zones`: those that list the client with a positive score."""

    score: int
    zones: tuple[str, ...]


class _Look:
    __slots__ = ("began", "sum", "waiting")

    def __init__(self, began: float) -> None:
        self.began = began
        self.sum: Sum | None = None
        self.waiting: list[Deferred[Sum]] = []


class Lists:
    """Those of one process. `failed`: questions without an answer in time."""

    def __init__(self, resolver: Resolver, reactor: Any) -> None:
        self.failed = 0
        self._resolver = resolver
        self._reactor = reactor
        self._lists: tuple[_List, ...] = ()
        self._looks: OrderedDict[str, _Look] = OrderedDict()

    def reload(self, lists: Iterable[Dnsbl]) -> None:
        """Others from now on."""
        before, self._lists = self._lists, tuple(_List(config) for config in lists)
        if [one.config for one in before] != [one.config for one in self._lists]:
            self._looks = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._lists)

    def sum(self, address: str) -> Sum | Deferred[Sum]:
        """For a client's address; what is not known yet is asked for. The Deferred never fails."""
        look = self._look(address)
        if look.sum is not None:
            return look.sum
        waiting: Deferred[Sum] = Deferred()
        look.waiting.append(waiting)
        return waiting

    def begin(self, address: str) -> None:
        """Asks already now."""
        self._look(address)

    def _look(self, address: str) -> _Look:
        now = self._reactor.seconds()
        look = self._looks.get(address)
        if look is not None and (look.sum is None or now - look.began < REMEMBERED):
            return look
        look = self._looks[address] = _Look(now)
        self._looks.move_to_end(address)
        if len(self._looks) > MAX_CLIENTS:
            self._looks.popitem(last=False)
        lists, begins = self._lists, reversed_name(address)
        asked = [
            self._resolver.at(f"{begins}.{one.config.zone}")
            .addTimeout(LIMIT, self._reactor)
            .addErrback(self._unanswered)
            for one in lists
        ]
        DeferredList(asked).addCallback(partial(self._answered, look, lists))
        return look

    def _unanswered(self, failure: Failure) -> tuple[str, ...]:
        self.failed += 1
        return ()

    def _answered(self, look: _Look, lists: tuple[_List, ...], results: list[tuple[bool, tuple[str, ...]]]) -> None:
        score, zones = 0, []
        for one, (_, addresses) in zip(lists, results, strict=True):
            if one.means(addresses):
                score += one.config.score
                if one.config.score > 0:
                    zones.append(one.shown)
        look.sum = Sum(score, tuple(zones))
        waiting, look.waiting = look.waiting, []
        for waiter in waiting:
            waiter.callback(look.sum)


class _List:
    """One, ready."""

    def __init__(self, config: Dnsbl) -> None:
        self.config = config
        self.shown = without_key(config.zone)
        self._codes = [tuple(int(IPv4Address(end)) for end in code.split("-")) for code in config.codes]

    def means(self, addresses: tuple[str, ...]) -> bool:
        """Whether one of the answers is one of the codes."""
        numbers = [int(IPv4Address(address)) for address in addresses]
        return any(codes[0] <= number <= codes[-1] for number in numbers for codes in self._codes)


def reversed_name(address: str) -> str:
    """The name of a client in any list: its octets, or with IPv6 its nibbles, from the last (RFC 5782 2.1, 2.4)."""
    client = ip_address(unmapped(address).partition("%")[0])
    return client.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


def without_key(zone: str) -> str:
    """A list's name without the customer's key that it may begin with."""
    first, _, rest = zone.partition(".")
    return rest if len(first) >= KEY_LENGTH and "." in rest else zone
