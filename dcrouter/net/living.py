"""The connections that a process has from the edge: which there are, how they ended, who waits until there are none.

One look at all of them per TICK costs less than a timer for each; it stops when there is none.
"""

from __future__ import annotations

import errno
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from dcrouter.config.security import MinRate
from dcrouter.events import SessionClosed
from dcrouter.facts import ConnectionFacts
from dcrouter.net.floor import Pace

TICK = 0.25
"""Seconds: how late a timeout may be noticed."""


class Connection(Protocol):
    facts: ConnectionFacts


One = TypeVar("One", bound=Connection)


class Living(ABC, Generic[One]):
    """`closed`, where given, hears of each that has ended."""

    def __init__(self, clock: Any, closed: Callable[[SessionClosed], None] | None) -> None:
        self.clock = clock
        self.begun = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.ends: dict[str, dict[str, int]] = {}
        """route -> termination code -> connections that ended so."""
        self._closed = closed
        self._living: set[One] = set()
        self._paces: dict[One, Pace] = {}
        self._tick: IDelayedCall | None = None
        self._waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._living)

    # What is different.

    @abstractmethod
    def look(self, now: float) -> None:
        """End those whose time is over; `now`: by the clock."""

    @abstractmethod
    def cut(self, one: One) -> None:
        """The operator wants it ended now."""

    @abstractmethod
    def shown(self, one: One, now: float) -> dict[str, Any]:
        """What an operator sees of it, JSON-ready; `now`: UTC epoch seconds."""

    # What is alike.

    def enter(self, one: One, least: MinRate | None) -> None:
        """It has begun. `least`: it must move."""
        self._living.add(one)
        if least is not None:
            self._paces[one] = Pace(least, self.clock.seconds(), 0)
        self.begun += 1
        if self._tick is None:
            self._tick = self.clock.callLater(TICK, self._look)

    def leave(self, one: One, event: SessionClosed) -> None:
        """It has ended."""
        self._living.discard(one)
        self._paces.pop(one, None)
        self.bytes_in += event.bytes_in
        self.bytes_out += event.bytes_out
        self.count(event)
        if not self._living:
            if self._tick is not None:
                self._tick.cancel()
                self._tick = None
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                waiter.callback(None)

    def count(self, event: SessionClosed) -> None:
        """How one ended, which may never have begun."""
        ends = self.ends.setdefault(event.route or "-", {})
        ends[event.termination] = ends.get(event.termination, 0) + 1
        self.report(event)

    def report(self, event: SessionClosed) -> None:
        if self._closed is not None:
            self._closed(event)

    def empty(self) -> Deferred[None]:
        """Fires when there is none; now, if so."""
        done: Deferred[None] = Deferred()
        if self._living:
            self._waiting.append(done)
        else:
            done.callback(None)
        return done

    def living(self) -> list[tuple[str, str, str | None]]:
        """(session, client's address, route) of each."""
        return [(one.facts.session, one.facts.peer[0], one.facts.route) for one in self._living]

    def page(self, after: str | None, most: int) -> dict[str, Any]:
        """`most` of them, JSON-ready, by their ids; `next`: what is `after` for the page behind it."""
        found = sorted(one.facts.session for one in self._living if after is None or one.facts.session > after)[:most]
        chosen = set(found)
        now = time.time()
        shown = [self.shown(one, now) for one in self._living if one.facts.session in chosen]
        shown.sort(key=lambda one: str(one["session"]))
        return {"connections": shown, "next": found[-1] if len(found) == most else None}

    def kill(self, session: str) -> int:
        """Cuts the one of that id: how many it was."""
        found = [one for one in self._living if one.facts.session == session]
        for one in found:
            self.cut(one)
        return len(found)

    def _look(self) -> None:
        self._tick = self.clock.callLater(TICK, self._look)
        self.look(self.clock.seconds())


def had_gone(error: OSError) -> bool:
    """Whether a socket could not be taken over because its client is not there any more."""
    return error.errno in (errno.ENOTCONN, errno.ECONNRESET, errno.EINVAL)
