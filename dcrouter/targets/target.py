"""The targets of one action: which of them a connection is sent to, and where each of them is."""

from __future__ import annotations

import errno
import re
import socket
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from attrs import frozen
from twisted.logger import Logger

from dcrouter.config.actions import Forward
from dcrouter.config.names import is_address, target_host
from dcrouter.config.targets import Target
from dcrouter.config.units import port, shown
from dcrouter.errors import EXHAUSTED
from dcrouter.facts import ConnectionFacts
from dcrouter.net.wheel import NEVER
from dcrouter.targets.addresses import Addresses
from dcrouter.targets.balance import Order, order_of, seed_of
from dcrouter.targets.narrow import TargetConditions
from dcrouter.targets.state import Memory, TargetState, Turn
from dcrouter.wire.hostport import hostport
from dcrouter.wire.http1.head import RequestHead

ADDRESSES_PER_TARGET = 4
"""A name with many addresses is one target: so many of them are tried before the next target has its turn."""

MOST_CHOSEN = 1000
"""Targets of a route that are remembered though its file does not name them; each has a connection's counters."""

NO_ADDRESS = "its name has no known address"


class NoAddressYet(OSError):
    """A name on the way is not resolved (yet)."""

    def __init__(self, where: str = "") -> None:
        super().__init__(errno.EHOSTUNREACH, where + NO_ADDRESS)


def is_ours(error: object) -> TypeGuard[OSError]:
    """Whether a connection has failed for want of what we have too little of: no target is to blame."""
    return isinstance(error, OSError) and error.errno in EXHAUSTED


@frozen
class Candidate:
    """One address to connect to. `label` is for logs, `host` the name to verify a certificate against (None: unix).

    `family` AF_UNSPEC: a proxy connects there, and `address` may have a name.
    """

    family: int
    address: tuple[str, int] | str
    label: str
    host: str | None


class LiveTarget:
    """One target of a route, with what is known of it. `label`: as it was written, for the operator. `addresses`: None
    where a proxy finds it.
    """

    __slots__ = (
        "_addresses",
        "_made",
        "_version",
        "_where",
        "conditions",
        "host",
        "label",
        "seed",
        "state",
        "target",
        "weight",
    )

    def __init__(self, target: Target, state: TargetState, addresses: Addresses | None) -> None:
        self.target = target
        self.state = state
        self.label = target.label
        self.host = target.host
        self.conditions = TargetConditions(target.match) if target.match is not None else None
        self.weight = target.weight
        self.seed = seed_of(self.label)
        self._addresses = addresses
        self._made: dict[int, list[Candidate]] = {}
        self._where: dict[int, str] = {}
        self._version = -1

    def candidates(self, incoming_port: int) -> list[Candidate]:
        """Where it is, in the order in which to try; empty where its name is not resolved (yet).

        `incoming_port` stands in for `port: preserve`.
        """
        addresses = self._addresses
        if addresses is not None and self._version != addresses.version:
            self._made.clear()
            self._where.clear()
            self._version = addresses.version
        found = self._made.get(incoming_port)
        if found is None:
            found = self._made[incoming_port] = self._places(incoming_port)
            self._where[incoming_port] = " ".join((self.label, *(one.label for one in found)))
        return found

    def where(self, incoming_port: int) -> str:
        """The same as one word: connections for another one lead elsewhere. Good right after `candidates`."""
        return self._where[incoming_port]

    def port(self, incoming_port: int) -> int:
        return self.target.port or incoming_port

    def _places(self, incoming_port: int) -> list[Candidate]:
        if self.target.unix is not None:
            path = str(self.target.unix)
            return [Candidate(socket.AF_UNIX, path, f"unix:{path}", None)]
        assert self.host is not None
        port = self.port(incoming_port)
        if self._addresses is None:
            return [Candidate(socket.AF_UNSPEC, (self.host, port), hostport(self.host, port), self.host)]
        return places(self._addresses.of(self.host), port, self.host)


class Targets:
    """Those of one route. `watched`: some of them may be left out for their health."""

    log = Logger()

    def __init__(self, route: str, action: Forward, addresses: Addresses, memory: Memory) -> None:
        self.route = route
        self.health = action.health
        self.all = tuple(
            LiveTarget(
                target,
                memory.keep(TargetState, route, target.label),
                addresses if action.through is None else None,
            )
            for target in action.targets
        )
        self.passive = action.health.passive if action.health is not None else None
        self.watched = action.health is not None
        self._checked = action.health is not None and action.health.type is not None
        self._first = tuple(target for target in self.all if not target.target.backup)
        self._backups = tuple(target for target in self.all if target.target.backup)
        self._tries = 1 + action.retries
        weighted = len({target.weight for target in self.all}) > 1
        self._order: Order[LiveTarget] = order_of(action.balance, weighted, memory.keep(Turn, route))
        self._narrowed = any(target.conditions is not None for target in self.all)
        self._by_label = {target.label: target for target in self.all}
        self._chosen: OrderedDict[str, LiveTarget] = OrderedDict()
        self._addresses = addresses if action.through is None else None
        self._only = self.all if len(self.all) == 1 and not self.watched and not self._narrowed else None

    def order(self, facts: ConnectionFacts, now: float, head: RequestHead | None = None) -> Sequence[LiveTarget]:
        """Where to try, in order: at most 1 + retries targets, backups last. Empty where checks have found all down.

        Targets that are merely ejected are tried while there is nothing better. `head`: of the request, if it is one.
        """
        if self._only is not None:
            return self._only
        first: Sequence[LiveTarget] = self._first
        backups: Sequence[LiveTarget] = self._backups
        if self._narrowed:
            meant = self._meant(facts, head)
            first = [target for target in first if target in meant]
            backups = [target for target in backups if target in meant]
        if self.watched:
            all_first, all_backups = first, backups
            first, backups = self._usable(first, now), self._usable(backups, now)
            if not first and not backups:
                first, backups = self._usable(all_first, NEVER), self._usable(all_backups, NEVER)
        chosen: list[LiveTarget] = []
        if first:
            chosen += self._order(first, facts.peer[0])
        if backups and len(chosen) < self._tries:
            chosen += self._order(backups, facts.peer[0])
        return chosen[: self._tries]

    def chosen(self, labels: Iterable[str]) -> Sequence[LiveTarget]:
        """The targets that somebody else has chosen, in order: our own, by their labels, or any address; names that are
        not ours only where a proxy finds them. ValueError for what is none of these.
        """
        return [self._by_label.get(one) or self._other(one) for one in labels][: self._tries]

    def why_none(self, facts: ConnectionFacts, head: RequestHead | None = None) -> str:
        """Why `order` gave none."""
        meant = self._meant(facts, head)
        if not self.all:
            return "no target is chosen"
        if not meant:
            return "no target is for this (match)"
        return "no target is up (" + ", ".join(f"{one.label} is down: {one.state.reason}" for one in meant[:3]) + ")"

    def broken(self, target: LiveTarget, reason: str, now: float, cause: object = None) -> bool:
        """A connection to `target` has failed, for `cause` where that is known. True: it is ejected for it."""
        if is_ours(cause):
            return False
        ejected = target.state.broken(self.passive, reason, now)
        if ejected and self.passive is not None:
            self.log.warn(
                "target {target} of route {route} is ejected for {seconds:g} s: {reason}",
                target=target.label,
                route=self.route,
                seconds=self.passive.eject,
                reason=target.state.reason,
            )
        return ejected

    def status(self, now: float) -> dict[str, Any] | None:
        """label -> its state; None where there is nothing to tell but what the route's counters tell."""
        if self._only is not None and not self._only[0].state.failed:
            return None
        return {target.label: target.state.status(now, checked=self._checked) for target in self.all}

    def _meant(self, facts: ConnectionFacts, head: RequestHead | None) -> Sequence[LiveTarget]:
        """Those that are for this connection or request; where none is, those that are for all."""
        chosen = [one for one in self.all if one.conditions is not None and one.conditions.hold(facts, head)]
        return chosen or [one for one in self.all if one.conditions is None]

    def _other(self, text: str) -> LiveTarget:
        found = self._chosen.get(text)
        if found is None:
            target = _parsed(text)
            found = self._by_label.get(target.label)
            if found is not None:
                return found
            if self._addresses is not None and target.host is not None and not is_address(target.host):
                raise ValueError(f"{shown(text)} is neither an address with a port nor one of the route's targets")
            found = LiveTarget(target, TargetState(), self._addresses)
            if len(self._chosen) >= MOST_CHOSEN:
                self._chosen.popitem(last=False)
            self._chosen[text] = found
        return found

    def _usable(self, targets: Sequence[LiveTarget], now: float) -> Sequence[LiveTarget]:
        """Those that are neither down nor ejected at `now`."""
        return [one for one in targets if one.state.ejected_until <= now and not (one.state.down and self._checked)]


def _parsed(text: str) -> Target:
    """`192.0.2.1:443`, `[2001:db8::1]:443`, `unix:/run/app.sock`; ValueError for others."""
    if text.startswith("unix:/") and "\0" not in text:
        return Target(unix=Path(text.removeprefix("unix:")))
    host, colon, port_text = text.rpartition(":")
    if not colon or re.fullmatch("[0-9]{1,5}|preserve", port_text) is None:
        raise ValueError(f"{shown(text)} is no target such as 192.0.2.1:443")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return Target(host=target_host(host), port=None if port_text == "preserve" else port(int(port_text)))


def places(addresses: Sequence[str], port: int, host: str) -> list[Candidate]:
    """Candidates at `addresses`, families in turn, so that one that leads nowhere costs one attempt (RFC 8305 4)."""
    v6 = [address for address in addresses if ":" in address]
    v4 = [address for address in addresses if ":" not in address]
    ones, others = (v6, v4) if addresses and ":" in addresses[0] else (v4, v6)
    mixed = [address for pair in zip(ones, others, strict=False) for address in pair]
    shared = min(len(ones), len(others))
    return [
        Candidate(socket.AF_INET6 if ":" in address else socket.AF_INET, (address, port), hostport(address, port), host)
        for address in [*mixed, *ones[shared:], *others[shared:]][:ADDRESSES_PER_TARGET]
    ]
