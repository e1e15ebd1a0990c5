"""How often something may happen: token buckets, each one number.

A bucket holds `burst` tokens and gets `count` of them in `seconds`, evenly. What is kept is not the tokens but the
instant at which the bucket will be full again (GCRA, ITU-T I.371 annex A, in its virtual scheduling form): a bucket
that has been left alone needs no visit, and a full one needs no memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from dcrouter.config.rates import Rate

MAX_KEYS = 100_000
"""Buckets of one table, about 200 bytes each. Beyond, the one that was asked the longest ago is forgotten."""

_SLACK = 1e-6
"""Of a token: what sums of floats may be off."""


class _Pace:
    """A rate as arithmetic on instants."""

    __slots__ = ("_room", "interval")

    def __init__(self, rate: Rate) -> None:
        count, seconds = rate.rate
        self.interval = seconds / count
        self._room = self.interval * ((rate.burst or count) + _SLACK)

    def taken(self, full_at: float, now: float, tokens: int) -> float:
        """When the bucket will be full again if `tokens` are taken from it now."""
        return max(full_at, now) + tokens * self.interval

    def wait(self, full_at: float, now: float) -> float:
        """Seconds until a bucket that would be full at `full_at` could have been asked for it; 0.0: now."""
        return max(0.0, full_at - now - self._room)


class Bucket:
    """One bucket, full at first. `clock`: seconds that never go back."""

    __slots__ = ("_clock", "_full_at", "_pace")

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._pace = _Pace(rate)
        self._clock = clock
        self._full_at = float("-inf")

    def wait(self, tokens: int = 1) -> float:
        """Seconds until `take` would succeed; 0.0: now. More than the burst are never there, however long one waits."""
        now = self._clock()
        return self._pace.wait(self._pace.taken(self._full_at, now, tokens), now)

    def take(self, tokens: int = 1) -> bool:
        """Takes all of them, or none."""
        now = self._clock()
        full_at = self._pace.taken(self._full_at, now, tokens)
        if self._pace.wait(full_at, now):
            return False
        self._full_at = full_at
        return True

    def took(self, tokens: int, ago: float) -> None:
        """So many were taken so long ago, which nobody has told it then."""
        then = self._clock() - ago
        self._full_at = max(self._full_at, self._pace.taken(float("-inf"), then, tokens))


Memory = OrderedDict[Hashable, float]
"""Of many buckets, by key: when each will be full again. It holds for any rate, so it may outlive one."""


class Buckets:
    """A bucket of the same rate for each key, such as an address: at most `most` of them, each step O(1).

    A key that is forgotten for want of room begins with a full bucket; it takes `most` other keys to bring that about.
    `memory`: where the buckets are kept, None: nowhere else.
    """

    def __init__(
        self, rate: Rate, clock: Callable[[], float], most: int = MAX_KEYS, memory: Memory | None = None
    ) -> None:
        self._pace = _Pace(rate)
        self._clock = clock
        self._most = most
        self._full_at: Memory = OrderedDict() if memory is None else memory

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, key: Hashable, tokens: int = 1) -> float:
        """As of one bucket."""
        now = self._clock()
        return self._pace.wait(self._pace.taken(self._full_at.get(key, now), now, tokens), now)

    def take(self, key: Hashable, tokens: int = 1) -> bool:
        """As of one bucket."""
        now = self._clock()
        kept = self._full_at
        full_at = self._pace.taken(kept.get(key, now), now, tokens)
        refused = bool(self._pace.wait(full_at, now))
        if not refused:
            kept[key] = full_at
        if key in kept:
            kept.move_to_end(key)
        self._sweep(now)
        return not refused

    def charge(self, key: Hashable, tokens: int) -> None:
        """Takes them even where they are not there: the bucket is in debt then, and the next ones wait for it."""
        now = self._clock()
        self._full_at[key] = self._pace.taken(self._full_at.get(key, now), now, tokens)
        self._full_at.move_to_end(key)
        self._sweep(now)

    def give_back(self, key: Hashable, tokens: int = 1) -> None:
        """What was taken for nothing."""
        full_at = self._full_at.get(key)
        if full_at is not None:
            self._full_at[key] = full_at - tokens * self._pace.interval

    def _sweep(self, now: float) -> None:
        """Two at most: more than a step can add, so full buckets go sooner or later."""
        for _ in range(2):
            if not self._full_at:
                return
            oldest = next(iter(self._full_at))
            if self._full_at[oldest] > now and len(self._full_at) <= self._most:
                return
            del self._full_at[oldest]
