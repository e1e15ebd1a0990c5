"""One coarse timer wheel for all connections of an engine: moving a deadline costs an assignment, not a timer.

A sleeper has a `deadline` (monotonic seconds, `NEVER` for none) which it may move at will. The wheel looks at it
again no later than `due`: when the deadline has moved on by then, the sleeper is put further down, else it has
expired. Only a deadline that comes *earlier* than `due` must be told (`arm`). So an idle timeout that is pushed
forward by every byte is looked at once per turn of the wheel, whatever the traffic.
"""

from __future__ import annotations

from typing import Protocol

NEVER = float("inf")
TICK = 0.1
"""Seconds a deadline may be late; the shortest timeout that anyone sets is about 250 ms."""
SLOTS = 600
"""One turn takes a minute, so a sleeper with an hour to go is looked at 60 times in it."""


class Sleeper(Protocol):
    """What the wheel needs of a task."""

    deadline: float
    due: float

    def expired(self, now: float) -> None:
        """What the owner of the wheel calls when it has."""


class Wheel:
    """Slots of `TICK` seconds each. `turn(now)` gives the sleepers whose deadline has passed."""

    def __init__(self, now: float) -> None:
        self._slots: list[set[Sleeper]] = [set() for _ in range(SLOTS)]
        self._tick = int(now / TICK)

    def arm(self, sleeper: Sleeper) -> None:
        """Make sure that `sleeper` is looked at when its deadline comes, at the latest."""
        if sleeper.due != NEVER:
            self._slots[int(sleeper.due / TICK) % SLOTS].discard(sleeper)
        if sleeper.deadline == NEVER:
            sleeper.due = NEVER
            return
        # For every connection: without `min` and `max`, which are calls.
        tick, here = int(sleeper.deadline / TICK) + 1, self._tick
        if tick <= here:
            tick = here + 1
        elif tick >= here + SLOTS:
            tick = here + SLOTS - 1
        sleeper.due = tick * TICK + TICK / 2
        self._slots[tick % SLOTS].add(sleeper)

    def disarm(self, sleeper: Sleeper) -> None:
        """Forget `sleeper`."""
        if sleeper.due != NEVER:
            self._slots[int(sleeper.due / TICK) % SLOTS].discard(sleeper)
            sleeper.due = NEVER

    def turn(self, now: float) -> list[Sleeper]:
        """Advance to `now`; the expired are no longer in the wheel."""
        expired: list[Sleeper] = []
        target = int(now / TICK)
        for tick in range(max(self._tick + 1, target - SLOTS + 1), target + 1):
            self._tick = tick
            slot = self._slots[tick % SLOTS]
            if not slot:
                continue
            self._slots[tick % SLOTS] = set()
            for sleeper in slot:
                sleeper.due = NEVER
                if sleeper.deadline <= now:
                    expired.append(sleeper)
                else:
                    self.arm(sleeper)
        return expired
