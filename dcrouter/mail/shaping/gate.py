"""One limit that next hops share, by name: of a zone, of a provider, of a domain, of a host, of all.

Connections at once, messages and time on each, and how often a message may leave. Nothing polls: who finds no slot is
called in its turn when one is given back, who finds no token when the next one is there. What would wait for long is
not kept in memory: it is told when to come again, in the order in which it came, and finds its token then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from math import inf
from typing import Protocol as Shape

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dcrouter.config.rates import Rate
from dcrouter.mail.queue.waits import RATE
from dcrouter.mail.shaping.pace import Pace
from dcrouter.mail.shaping.spent import Record, Spent

SOON = 5.0
"""Seconds for which a message waits in memory for its token; one that has longer to wait goes back to the queue."""

SLOW = 10.0
"""Seconds that those who wait for a gate will wait, as it seems, before it counts as slow."""

STALLED = 3.0
"""Seconds in which nothing has left, after which it does so, too."""

KEPT = 500
"""Messages that may wait in memory for one gate that is slow, over all next hops behind it; each may have one."""

RETURNING = 20
"""Messages at once that come for the token that they were told of, and wait for it in memory if it is late."""

BOOKED = 50_000
"""Messages that are remembered to have been told when to come."""

LOOK_AGAIN = 1.0
"""Seconds after which tokens are offered to the next ones, where those who were called have not used them."""


class Guest(Shape):
    """One next hop, with its connections."""

    def open_again(self) -> None:
        """There may be room for a connection now: to be taken, or not."""

    def token(self) -> None:
        """A message may leave now: or not."""

    def spare(self) -> bool:
        """Ends an idle connection, if it has one; its slot is given back when it has ended."""


class Gate:
    """`size`: connections at once. `messages` and `seconds`: on one connection. `waiting`: messages in memory behind
    it. `cut_down`: some were sent away, since too many waited. `kept`: it outlives those next hops.

    `clock` has its timers, `now` gives seconds that never go back; `recovered` hears its name when those may come
    again. `spent`: what has left by its rates before a restart.
    """

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        now: Callable[[], float],
        recovered: Callable[[str], None],
        spent: Spent | None = None,
    ) -> None:
        self.name = name
        self.size: float = inf
        self.messages: float = inf
        self.seconds: float = inf
        self.kept = False
        self.cut_down = False
        self.waiting = 0
        self.used = 0
        self._recovered = recovered
        self._spent = spent
        self._left = 0.0  # when the last message left, and how long it takes from one to the next
        self._step = 0.0
        self._clock = clock
        self._now = now
        self._pace: Pace | None = None
        self._brake: Pace | None = None
        self._guests: dict[Guest, int] = {}
        self._slot_line: dict[Guest, None] = {}
        self._token_line: dict[Guest, None] = {}
        self._timer: IDelayedCall | None = None
        self._booked: OrderedDict[Hashable, float] = OrderedDict()  # until when
        self._booked_until = 0.0
        self.paced = False

    def limit(self, size: float, messages: float, seconds: float, rate: Rate | None) -> None:
        """From now on; connections that are too many leave when they are ready."""
        self.size, self.messages, self.seconds = size, messages, seconds
        if rate != (self._pace.rate if self._pace is not None else None):
            before, record = self._pace, self._record("", rate)
            if rate is None:
                self._pace = None
            else:
                self._pace = before.succeed(rate, record) if before is not None else Pace(rate, self._now, record)
            self._rate_changed(since_before=before is not None)
        self.admit()

    def slow_down(self, rate: Rate | None) -> None:
        """A second rate, for a while; None: no more."""
        if rate != (self._brake.rate if self._brake is not None else None):
            self._brake = Pace(rate, self._now, self._record("slow_down ", rate)) if rate is not None else None
            self._rate_changed()

    def stop(self) -> None:
        """No timer runs on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def rate(self) -> Rate | None:
        return self._pace.rate if self._pace is not None else None

    @property
    def brake(self) -> Rate | None:
        return self._brake.rate if self._brake is not None else None

    @property
    def quiet(self) -> bool:
        """Whether nothing is lost by forgetting it with the only next hop that it is for."""
        return self.kept or (self._brake is None and (self._pace is None or self._pace.quiet))

    # ------------------------------------------------------------------ what waits

    def came(self, count: int) -> None:
        """So many messages more wait in memory."""
        if not self.waiting:
            self._left = self._now()
        self.waiting += count

    def left(self, count: int) -> None:
        """So many less."""
        now = self._now()
        self._step += (max(now - self._left, 0.0) / count - self._step) * 0.1
        self._left = now
        self.waiting -= count
        if self.cut_down and self.waiting <= KEPT // 2:
            self.cut_down = False
            self._recovered(self.name)

    @property
    def crowded(self) -> bool:
        """Whether too many wait, and will for long."""
        if self.waiting <= KEPT:
            return False
        return self.waiting * self._step > SLOW or self._now() - self._left > STALLED

    def share(self, waiting: int) -> int:
        """How many of so many that wait for one next hop may go on doing so, if it is crowded."""
        return max(1, KEPT * waiting // max(self.waiting, KEPT))

    # ------------------------------------------------------------------ slots

    @property
    def full(self) -> bool:
        return self.used >= self.size

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a slot."""
        return bool(self._slot_line)

    def take(self, guest: Guest) -> None:
        self.used += 1
        self._guests[guest] = self._guests.get(guest, 0) + 1
        self._slot_line.pop(guest, None)

    def give(self, guest: Guest) -> None:
        self.used -= 1
        self._guests[guest] -= 1
        if not self._guests[guest]:
            del self._guests[guest]

    def line_up(self, guest: Guest) -> None:
        """`open_again` is called in its turn; an idle connection of another makes room."""
        if guest not in self._slot_line:
            self._slot_line[guest] = None
            for other in self._guests:
                if other is not guest and other.spare():
                    break

    def admit(self) -> None:
        while self._slot_line and not self.full:
            following = next(iter(self._slot_line))
            del self._slot_line[following]
            following.open_again()

    def leave(self, guest: Guest) -> None:
        self._slot_line.pop(guest, None)
        self._token_line.pop(guest, None)

    # ------------------------------------------------------------------ tokens

    def free(self) -> float:
        """How many messages may leave now."""
        return min((pace.free() for pace in (self._pace, self._brake) if pace is not None), default=inf)

    def wait(self, ahead: int = 0) -> float:
        """Seconds until one may leave that has so many before it."""
        return max((pace.wait(ahead) for pace in (self._pace, self._brake) if pace is not None), default=0.0)

    def spend(self) -> None:
        for pace in (self._pace, self._brake):
            if pace is not None:
                pace.spend()

    def line_up_for_token(self, guest: Guest) -> None:
        self._token_line[guest] = None
        self._arm(self.wait())

    def booking(self, ticket: Hashable) -> float:
        """Seconds until a message should come again, 0.0: it may wait here; `book` is to follow. Who comes before his
        time is told the same again, unless there is room by now.
        """
        if not self.paced:
            return 0.0
        wait, now = self.wait(self.waiting), self._now()
        told = self._booked.pop(ticket, None)
        if told is not None:
            early = told - now > SOON
            if wait <= SOON or (not early and self.waiting < RETURNING):
                return 0.0
            if early:
                return told - now
        booked = self._booked_until - now
        if booked > 0.0:
            wait = max(wait, booked + self._interval)
        return wait if wait > SOON else 0.0

    def book(self, ticket: Hashable, seconds: float) -> None:
        """It was told to come then."""
        self._booked[ticket] = until = self._now() + seconds
        self._booked_until = max(self._booked_until, until)
        if len(self._booked) > BOOKED:
            self._booked.popitem(last=False)

    def _record(self, prefix: str, rate: Rate | None) -> Record | None:
        return (
            self._spent.record(f"{prefix}{self.name}", rate) if self._spent is not None and rate is not None else None
        )

    @property
    def _interval(self) -> float:
        return max(pace.interval for pace in (self._pace, self._brake) if pace is not None)

    def _rate_changed(self, *, since_before: bool = False) -> None:
        """`since_before`: somebody may wait for it since before a restart."""
        self.paced = self._pace is not None or self._brake is not None
        waited = since_before or self._booked_until > 0.0
        self._booked.clear()
        self._booked_until = 0.0
        if self._token_line:
            self._arm(self.wait())
        if waited:
            self._recovered(f"{RATE}{self.name}")

    def _arm(self, wait: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.callLater(wait, self._offer)

    def _offer(self) -> None:
        """Tokens to those in the line, each in its turn; a clock that was set makes this come early."""
        self._timer = None
        called = 0
        free = self.free()
        while self._token_line and called < free:
            following = next(iter(self._token_line))
            del self._token_line[following]
            called += 1
            following.token()
        if self._token_line:
            self._arm(self.wait() or LOOK_AGAIN)
