"""Notices that somebody has set the clock: what waits for an instant then goes along with it.

Mail whose turn is in five minutes has it in five minutes, and is as old as it was, whatever the clock says since. Times
that a sender has named (RFC 4865) stay: they are meant as they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

EVERY = 2.0
"""Seconds between two looks."""
MOVED = 30.0
"""Seconds by which it was set, at least; less makes no difference to mail."""


class SetTime:
    """`clock`: whose seconds nobody can set; `wall`: UTC epoch seconds. `told` hear by how many of those it was set,
    before who asks `now` gets an answer.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, wall: Callable[[], float]) -> None:
        self._clock = clock
        self._wall = wall
        self.told: Sequence[Callable[[float], object]] = ()
        self._ahead = wall() - clock.seconds()
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        self._later()

    def now(self) -> float:
        wall = self._wall()
        if abs(wall - self._clock.seconds() - self._ahead) >= MOVED:
            self._moved(wall)
        return wall

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _later(self) -> None:
        self._timer = self._clock.callLater(EVERY, self._look)

    def _look(self) -> None:
        self._later()
        if abs(self.now() - self._clock.seconds() - self._ahead) < MOVED:
            self._ahead = self._wall() - self._clock.seconds()  # what a clock is steered by little by little

    def _moved(self, wall: float) -> None:
        ahead = wall - self._clock.seconds()
        moved, self._ahead = ahead - self._ahead, ahead
        self._log.warn("the clock was set by {moved} s; what waits goes along with it", moved=round(moved))
        for told in self.told:
            told(moved)
