"""The least that a connection must move to be kept: `security.min_rate`, against clients that are slow on purpose.

Time is cut into periods; one in which less was moved than asked for ends the connection. It costs one look per period,
and nothing where no floor is set: the relay knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dcrouter.config.security import MinRate
from dcrouter.errors import Refused
from dcrouter.net.wheel import NEVER

if TYPE_CHECKING:
    from dcrouter.net.engine import Task

REASON = "min_rate"
"""How such an end is called, in logs."""


class Pace:
    """One connection's periods; the first begins at `now`, when `moved` bytes have gone either way."""

    __slots__ = ("_least", "_seen", "ends")

    def __init__(self, least: MinRate, now: float, moved: int) -> None:
        self._least = least
        self.begin(now, moved)

    def begin(self, now: float, moved: int) -> None:
        """A period begins, whatever the last one was."""
        self._seen = moved
        self.ends = now + self._least.over

    def too_slow(self, now: float, moved: int) -> bool:
        """Whether the period that ends now had too little; if not, the next one begins."""
        if moved - self._seen < self._least.bytes:
            return True
        self.begin(now, moved)
        return False


class Floor:
    """Raises Refused("min_rate") in `task`; `moved` gives the bytes so far. Until `lift`, which must come.

    `counts`: whether the period that ends now does, None: each one does.
    """

    __slots__ = ("_counts", "_lifted", "_moved", "_pace", "_task", "deadline", "due")

    def __init__(
        self, task: Task, least: MinRate, moved: Callable[[], int], counts: Callable[[], bool] | None = None
    ) -> None:
        self._counts = counts
        self._task = task
        self._moved = moved
        self._pace = Pace(least, task.engine.now, moved())
        self._lifted = False
        self.due = NEVER
        self.deadline = self._pace.ends
        task.engine.wheel.arm(self)

    def expired(self, now: float) -> None:
        """A period is over."""
        if self._lifted:
            return
        moved = self._moved()
        if self._counts is not None and not self._counts():
            self._pace.begin(now, moved)
        elif self._pace.too_slow(now, moved):
            self._task.throw(Refused(REASON))
            return
        self.deadline = self._pace.ends
        self._task.engine.wheel.arm(self)

    def lift(self) -> None:
        """From now on it may be as slow as it likes."""
        self._lifted = True
        self._task.engine.wheel.disarm(self)
