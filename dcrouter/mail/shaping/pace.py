"""How often mail may leave: never more than a rate's count in any time of its length, and with a `burst` evenly, too.

What counts is what has left, by a clock that nobody can set. A rate of many is kept in GRAINS lots, so that its memory
is bounded; it may then be a thousandth slower than it says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from dcrouter.config.rates import Rate
from dcrouter.mail.shaping.spent import Record
from dcrouter.net.limits import Bucket

GRAINS = 1000
"""Instants that are remembered of one rate."""


class Pace:
    """`clock`: seconds that never go back. `record`: what has left before, and where it is kept."""

    def __init__(self, rate: Rate, clock: Callable[[], float], record: Record | None = None) -> None:
        self.rate = rate
        self._clock = clock
        self._count, self._seconds = rate.rate
        self._grain = -(-self._count // GRAINS)
        self._lots: deque[float] = deque()  # when the last message of each whole lot left
        self._begun = 0  # messages of the lot that is not whole
        self._bucket = Bucket(rate, clock) if rate.burst is not None else None
        self._record = record
        if record is not None:
            self._recall(record)

    @property
    def interval(self) -> float:
        """Seconds from one message to the next, on average."""
        return self._seconds / self._count

    @property
    def quiet(self) -> bool:
        """Whether nothing has left for so long that it makes no difference."""
        self._forget()
        return not self._lots and not self._begun

    def free(self) -> int:
        """How many may leave now."""
        left = max(0, self._count - self._used())
        if self._bucket is not None and left:
            return left if self._bucket.wait(left) <= 0.0 else int(self._bucket.wait() <= 0.0)
        return left

    def wait(self, ahead: int = 0) -> float:
        """Seconds until one may leave that has `ahead` others before it, if those leave as soon as they may."""
        excess = self._used() + ahead - self._count
        wait = 0.0
        if excess >= 0:
            rounds, rest = divmod(excess, self._count)
            at = rest // self._grain
            now = self._clock()
            left = self._lots[at] if at < len(self._lots) else now
            wait = max(0.0, left - now + self._seconds * (rounds + 1))
        if self._bucket is not None:
            wait = max(wait, self._bucket.wait(ahead + 1))
        return wait

    def spend(self) -> None:
        """One leaves."""
        self._begun += 1
        if self._begun >= self._grain:
            self._begun = 0
            self._lots.append(self._clock())
        if self._bucket is not None:
            self._bucket.take()
        if self._record is not None:
            self._record.add()

    def succeed(self, rate: Rate, record: Record | None = None) -> Pace:
        """Another rate, which knows what has left by this one; `record`: where it keeps what leaves from now on."""
        other = Pace(rate, self._clock)
        if other._grain == self._grain == 1:
            other._lots.extend(self._lots)
        for _ in range(min(len(self._lots) * self._grain + self._begun, other._count) if not other._lots else 0):
            other.spend()
        other._record = record
        return other

    def _recall(self, record: Record) -> None:
        now, room = self._clock(), self._count
        for ago, count in record.past():
            lots, self._begun = divmod(self._begun + min(count, room), self._grain)
            self._lots.extendleft([now - ago] * lots)
            if self._bucket is not None:
                self._bucket.took(min(count, self.rate.burst or count), ago)
            room -= min(count, room)

    def _used(self) -> int:
        self._forget()
        return len(self._lots) * self._grain + self._begun

    def _forget(self) -> None:
        before = self._clock() - self._seconds
        while self._lots and self._lots[0] <= before:
            self._lots.popleft()
