"""The table: for each port, which route a connection and each of its requests belong to, from as little as possible.

No look-up walks a list of routes: names are dictionary look-ups, and only the routes of the names that fit are
compared. Regular expressions are the exception: one is tried where it could come before what was found without.

`find`          before any byte: a route that needs none is taken at once, unless one that needs bytes could come before
                it; then the answer is MORE, and the caller comes back with a ClientHello or the head of a request
`find_tls`      by the ClientHello: the route whose TLS is met; what only a request tells is not asked yet
`find_plain`    by first bytes that are not TLS
`find_request`  by the head of a request, each one anew: Host, path, method, headers

The order is that of config/order.py.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import Literal, TypeVar, cast

from dcrouter.config.match import Match
from dcrouter.config.order import OrderKey, Spot, order_key, spots
from dcrouter.config.paths import Segments, readings
from dcrouter.config.tls import CertificateFiles
from dcrouter.errors import Misdirected, WireError
from dcrouter.facts import ConnectionFacts
from dcrouter.match.names import NameIndex
from dcrouter.match.requests import RequestConditions
from dcrouter.net.slices import Steps, finished
from dcrouter.proxy.bound import BoundRoute
from dcrouter.proxy.conditions import Clock, Conditions, HelloConditions
from dcrouter.wire.http1.answer import response
from dcrouter.wire.http1.head import RequestHead

T = TypeVar("T")


class Answer(Enum):
    """What `find` says instead of a route."""

    MORE = "more bytes are needed"


MORE: Literal[Answer.MORE] = Answer.MORE
NONE_RANK = 1 << 60
_STEP = 50
"""Routes, or places of them, that are worked on before somebody else may have a turn: less than a millisecond."""
_MISDIRECTED = response(421, b"421 Misdirected Request\n")
_TWO_WAYS = response(400, b"400 Bad Request\n")
_NO_PATH: tuple[Segments | None, ...] = (None,)


class Entry:
    """One name and path of one route on one port; `rank` 0 comes first.

    `conditions`: what is asked of the connection, and of its hello; `request`: of a request. None: nothing.
    """

    __slots__ = ("bound", "conditions", "rank", "request")

    def __init__(
        self, bound: BoundRoute, conditions: Conditions | None, request: RequestConditions | None, rank: int
    ) -> None:
        self.bound = bound
        self.conditions = conditions
        self.request = request
        self.rank = rank


class _Shared:
    """Conditions of many routes, each made once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[tuple[object, ...], object] = {}

    def early(self, match: Match) -> Conditions | None:
        """What can be known before the first byte."""
        key = (match.listen, match.client_ips, match.time)
        return None if key == (None, None, None) else self._of(key, lambda: Conditions(match, self._clock))

    def known(self, match: Match) -> Conditions | None:
        """What can be known of a connection with its hello."""
        if not match.asks_hello:
            return self.early(match)
        key = (match.listen, match.client_ips, match.time, match.alpn, match.tls_versions)
        return self._of(key, lambda: HelloConditions(match, self._clock))

    def request(self, match: Match, path: str | None) -> RequestConditions | None:
        if path is None and match.methods is None and match.headers is None:
            return None
        headers = None if match.headers is None else frozenset(match.headers.items())
        paths = None if path is None else (path,)
        return self._of(
            (path, match.methods, headers, "request"),
            lambda: RequestConditions(path=paths, methods=match.methods, headers=match.headers),
        )

    def _of(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
        return cast("T", self._made[key])


class PortTable:
    """The routes of one port (or of several ports that have the same ones).

    `only`: the route that takes every connection without a look, if there is one. `terminates`: the route that ends the
    TLS of every client, whatever name it asks for, always with the same certificate. `needs_local`: some route asks
    for the address that the client connected to. `mail`: every route here is the mail server's; `hands_mail`: which
    is a process beside us. `expects_http`: a plain connection may have to be told by its request; `expects_tls`:
    some route speaks TLS. `client_first`: whoever connects has to say something before anything is decided.
    """

    def __init__(self, routes: Sequence[tuple[int, BoundRoute]], clock: Clock = time.time) -> None:
        """`routes`: (place in the effective table, route)."""
        finished(self._fill(routes, clock))

    @classmethod
    def in_steps(cls, routes: Sequence[tuple[int, BoundRoute]], clock: Clock = time.time) -> Steps[PortTable]:
        """The same beside traffic."""
        table = cls.__new__(cls)
        yield from table._fill(routes, clock)
        return table

    def _fill(self, routes: Sequence[tuple[int, BoundRoute]], clock: Clock) -> Steps[None]:
        self.routes = tuple(bound for _, bound in routes)
        self._at_once: list[Entry] = []
        self._tls: NameIndex[Entry] = NameIndex()
        self._plain: NameIndex[Entry] = NameIndex()
        self._terminating: list[Entry] = []
        self.needs_local = any(bound.needs_local for bound in self.routes)
        self.expects_http = any(bound.needs_bytes and not bound.speaks_tls for bound in self.routes)
        self.expects_tls = any(bound.speaks_tls for bound in self.routes)
        self.mail = bool(self.routes) and all(bound.is_mail for bound in self.routes)
        self.hands_mail = self.mail and any(bound.is_handed for bound in self.routes)
        self._asks_path = any(bound.route.match.path is not None for bound in self.routes)
        first_of: dict[Conditions | None, int] = {}
        shared = _Shared(clock)
        ordered = yield from _ordered(routes)
        for rank, (_, (name, path), bound) in enumerate(ordered):
            match = bound.route.match
            entry = Entry(bound, shared.known(match), shared.request(match, path), rank)
            if not bound.needs_bytes:
                self._at_once.append(entry)
            else:
                first_of.setdefault(shared.early(match), rank)
            if bound.speaks_tls:
                self._tls.add(name, entry)
                if bound.terminates:
                    self._terminating.append(entry)
            else:
                self._plain.add(name, entry)
            if rank % _STEP == 0:
                yield
        self._waiting = list(first_of.items())
        self.client_first = not self._at_once and None in first_of
        self.only: BoundRoute | None = None
        if not self._waiting and self._at_once and self._at_once[0].conditions is None:
            self.only = self._at_once[0].bound
        self.terminates = _sole_terminating(self.routes)

    def find(self, facts: ConnectionFacts) -> BoundRoute | Literal[Answer.MORE] | None:
        """Before the first byte: the route, MORE, or None for nobody's connection."""
        waiting = NONE_RANK
        for conditions, rank in self._waiting:
            if rank < waiting and (conditions is None or conditions.hold(facts)):
                waiting = rank
        for entry in self._at_once:
            if entry.rank > waiting:
                break
            if entry.conditions is None or entry.conditions.hold(facts):
                return entry.bound
        return MORE if waiting != NONE_RANK else None

    def find_tls(self, facts: ConnectionFacts) -> BoundRoute | None:
        """With the ClientHello, in facts.sni and facts.hello: the first route that its requests may belong to.

        All other routes of that name which they may belong to meet TLS alike (config/checks/protocols.py). Without a
        name the first terminating route of the port answers, where none without domains does.
        """
        index, name = self._tls, facts.sni
        best = _first(index.candidates(name), facts)
        if name is None:
            best = best or _first([self._terminating], facts)
        elif index.expressions:
            best = _by_expression(index, name, facts, best)
        return best.bound if best is not None else None

    def find_plain(self, facts: ConnectionFacts) -> BoundRoute | None:
        """With the first bytes of a connection that is not TLS, on a port where none is told by its requests."""
        best = _first(self._plain.candidates(None), facts)
        return best.bound if best is not None else None

    def find_request(
        self, facts: ConnectionFacts, head: RequestHead, met: BoundRoute | None = None
    ) -> BoundRoute | None:
        """For each request of an HTTP connection: its route, or None where nobody wants it.

        `met`: the route by which the connection's TLS was settled, be it of an older table; None, or a plain route,
        where there is no TLS. Misdirected (421) where the request belongs to a route whose TLS differs from that;
        WireError (400) where servers would read its path in different ways that lead to different routes.
        """
        secure = met is not None and met.terminates
        index, name = (self._tls if secure else self._plain), head.host
        if name is None and secure:
            name = facts.sni  # HTTP/1.0 has no Host, but its TLS has told a name
        paths = readings(head.path) if self._asks_path else _NO_PATH
        found = _for_request(index, name, facts, head, paths[0])
        for other in paths[1:]:
            if _for_request(index, name, facts, head, other) is not found:
                raise WireError("HTTP request: a path that can be read in two ways", _TWO_WAYS)
        if secure and found is not None and found is not met:
            assert met is not None
            if found.trust != met.trust or (name != facts.sni and not _same_certificate(found, met)):
                raise Misdirected(f"{name} is not for a TLS session with {facts.sni}", _MISDIRECTED)
        return found


def _first(lists: Iterable[Sequence[Entry]], facts: ConnectionFacts) -> Entry | None:
    best: Entry | None = None
    for entries in lists:
        for entry in entries:
            if best is not None and entry.rank > best.rank:
                break
            if entry.conditions is None or entry.conditions.hold(facts):
                best = entry
                break
    return best


def _by_expression(index: NameIndex[Entry], name: str, facts: ConnectionFacts, best: Entry | None) -> Entry | None:
    """`best`, or what comes before it by a regular expression."""
    for matches, entry in index.expressions:
        if best is not None and entry.rank > best.rank:
            break
        if (entry.conditions is None or entry.conditions.hold(facts)) and matches(name) is not None:
            return entry
    return best


def _for_request(
    index: NameIndex[Entry], name: str | None, facts: ConnectionFacts, head: RequestHead, path: Segments | None
) -> BoundRoute | None:
    best: Entry | None = None
    for entries in index.candidates(name):
        for entry in entries:
            if best is not None and entry.rank > best.rank:
                break
            if _meets(entry, facts, head, path):
                best = entry
                break
    if index.expressions and name is not None:
        for matches, entry in index.expressions:
            if best is not None and entry.rank > best.rank:
                break
            if _meets(entry, facts, head, path) and matches(name) is not None:
                best = entry
                break
    return best.bound if best is not None else None


def _meets(entry: Entry, facts: ConnectionFacts, head: RequestHead, path: Segments | None) -> bool:
    return (entry.request is None or entry.request.hold(head, path)) and (
        entry.conditions is None or entry.conditions.hold(facts)
    )


def _same_certificate(one: BoundRoute, other: BoundRoute) -> bool:
    assert one.route.tls is not None and other.route.tls is not None
    return one.route.tls.certificate == other.route.tls.certificate


def _sole_terminating(routes: Sequence[BoundRoute]) -> BoundRoute | None:
    """The one route of a port, where its handshake can begin without a look at the hello."""
    if len(routes) != 1 or not routes[0].terminates:
        return None
    match, tls = routes[0].route.match, routes[0].route.tls
    assert tls is not None
    asks = (match.domains, match.listen, match.client_ips, match.alpn, match.tls_versions, match.time)
    unconditional = all(one is None for one in asks)
    return routes[0] if unconditional and isinstance(tls.certificate, CertificateFiles) else None


_Ordered = tuple[OrderKey, Spot, BoundRoute]


def _ordered(routes: Sequence[tuple[int, BoundRoute]]) -> Steps[Iterator[_Ordered]]:
    """All spots of all routes in their order: sorted piece by piece, and merged while they are taken."""
    pieces: list[list[_Ordered]] = []
    keyed = (
        (order_key(bound.route, spot, at), spot, bound) for at, bound in routes for spot in spots(bound.route.match)
    )
    while piece := list(islice(keyed, _STEP)):
        pieces.append(sorted(piece, key=_place))
        yield
    return heapq.merge(*pieces, key=_place)


def _place(item: _Ordered) -> OrderKey:
    return item[0]


def tables(routes: Sequence[BoundRoute]) -> dict[int, PortTable]:
    """The tables of all ports; `routes` in the order of the effective table. Ports with the same routes share one."""
    return finished(tables_in_steps(routes))


def tables_in_steps(routes: Sequence[BoundRoute]) -> Steps[dict[int, PortTable]]:
    """The same beside traffic."""
    by_port: dict[int, list[int]] = {}
    for index, bound in enumerate(routes):
        for port in {port for given in bound.route.match.ports for port in range(given.start, given.end + 1)}:
            by_port.setdefault(port, []).append(index)
        if index % _STEP == 0:
            yield
    made: dict[tuple[int, ...], PortTable] = {}
    for indices in map(tuple, by_port.values()):
        if indices not in made:
            made[indices] = yield from PortTable.in_steps([(index, routes[index]) for index in indices])
    return {port: made[tuple(indices)] for port, indices in by_port.items()}
