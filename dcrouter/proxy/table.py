"""The table: for each port, which route a connection belongs to, from as little of it as possible.

`find` walks no list of routes: names are dictionary look-ups, and only the routes of the names that fit are compared.
It answers in two steps. Before any byte is read, a route that needs none is taken at once, unless one that needs bytes
could come before it; then the answer is MORE, and the caller comes back with a ClientHello or the head of a request.

The order is that of config/order.py: priority, specificity, conditions, the order in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Literal

from dcrouter.config.match import Address, Network
from dcrouter.config.order import order_key
from dcrouter.config.tls import CertificateFiles
from dcrouter.facts import ConnectionFacts
from dcrouter.match.addresses import Networks
from dcrouter.match.names import NameIndex
from dcrouter.proxy.bound import BoundRoute


class Answer(Enum):
    """What `find` says instead of a route."""

    MORE = "more bytes are needed"


MORE: Literal[Answer.MORE] = Answer.MORE
NONE_RANK = 1 << 60


class Conditions:
    """What can be known of a connection before its first byte: the address it came to, and who it is."""

    __slots__ = ("_clients", "_listen")

    def __init__(self, listen: tuple[Address, ...] | None, clients: tuple[Network, ...] | None) -> None:
        self._listen = None if listen is None else frozenset(str(address) for address in listen)
        if self._listen is not None and self._listen & {"0.0.0.0", "::"}:
            self._listen = None
        self._clients = None if clients is None else Networks(clients)

    def hold(self, facts: ConnectionFacts) -> bool:
        return (self._listen is None or facts.local[0] in self._listen) and (
            self._clients is None or self._clients.covers(facts.peer[0])
        )


class Entry:
    """One name of one route on one port; `rank` 0 comes first."""

    __slots__ = ("bound", "conditions", "rank")

    def __init__(self, bound: BoundRoute, conditions: Conditions | None, rank: int) -> None:
        self.bound = bound
        self.conditions = conditions
        self.rank = rank


class PortTable:
    """The routes of one port (or of several ports that have the same ones).

    `only`: the route that takes every connection without a look, if there is one. `terminates`: the route that ends the
    TLS of every client, whatever name it asks for, always with the same certificate. `needs_local`: some route asks for
    the address that the client connected to. `mail`: every route here is the mail server's.
    """

    def __init__(self, routes: Sequence[tuple[int, BoundRoute]]) -> None:
        """`routes`: (place in the effective table, route)."""
        self._at_once: list[Entry] = []
        self._tls: NameIndex[Entry] = NameIndex()
        self._plain: NameIndex[Entry] = NameIndex()
        self._terminating: list[Entry] = []
        first_of: dict[tuple[object, object], tuple[Conditions | None, int]] = {}
        keyed = sorted(
            ((order_key(bound.route, name, index), name, bound) for index, bound in routes for name in bound.names),
            key=lambda item: item[0],
        )
        shared: dict[tuple[object, object], Conditions | None] = {}
        self.needs_local = False
        for rank, (_, name, bound) in enumerate(keyed):
            match = bound.route.match
            key = (match.listen, match.client_ips)
            if key not in shared:
                shared[key] = Conditions(*key) if key != (None, None) else None
            self.needs_local |= match.listen is not None
            entry = Entry(bound, shared[key], rank)
            if not bound.needs_bytes:
                self._at_once.append(entry)
            elif key not in first_of:
                first_of[key] = (entry.conditions, rank)
            if bound.speaks_tls:
                self._tls.add(name, entry)
                if bound.terminates:
                    self._terminating.append(entry)
            else:
                self._plain.add(name, entry)
        self._waiting = list(first_of.values())
        self.expects_http = any(bound.needs_bytes and not bound.speaks_tls for _, bound in routes)
        self.mail = all(bound.is_mail for _, bound in routes)
        self.only: BoundRoute | None = None
        if not self._waiting and self._at_once and self._at_once[0].conditions is None:
            self.only = self._at_once[0].bound
        self.terminates = _sole_terminating(keyed[0][2] if len(keyed) == 1 else None)

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
        """With the ClientHello: by facts.sni. Without a name the first terminating route of the port answers."""
        found = _first(self._tls.candidates(facts.sni), facts)
        if found is None and facts.sni is None:
            found = _first([self._terminating], facts)
        return found

    def find_plain(self, facts: ConnectionFacts, host: str | None) -> BoundRoute | None:
        """With the first bytes of a connection that is not TLS: by `host` where it is a request with one."""
        return _first(self._plain.candidates(host), facts)


def _first(lists: Iterable[Sequence[Entry]], facts: ConnectionFacts) -> BoundRoute | None:
    best: Entry | None = None
    for entries in lists:
        for entry in entries:
            if best is not None and entry.rank > best.rank:
                break
            if entry.conditions is None or entry.conditions.hold(facts):
                best = entry
                break
    return best.bound if best is not None else None


def _sole_terminating(bound: BoundRoute | None) -> BoundRoute | None:
    """The one route of a port, where its handshake can begin without a look at the hello."""
    if bound is None or not bound.terminates:
        return None
    match, tls = bound.route.match, bound.route.tls
    unconditional = match.domains is None and match.listen is None and match.client_ips is None
    assert tls is not None
    return bound if unconditional and isinstance(tls.certificate, CertificateFiles) else None


def tables(routes: Sequence[BoundRoute]) -> dict[int, PortTable]:
    """The tables of all ports; `routes` in the order of the effective table. Ports with the same routes share one."""
    by_port: dict[int, list[int]] = {}
    for index, bound in enumerate(routes):
        for port in {port for given in bound.route.match.ports for port in range(given.start, given.end + 1)}:
            by_port.setdefault(port, []).append(index)
    made: dict[tuple[int, ...], PortTable] = {}
    for indices in map(tuple, by_port.values()):
        if indices not in made:
            made[indices] = PortTable([(index, routes[index]) for index in indices])
    return {port: made[tuple(indices)] for port, indices in by_port.items()}
