"""Whether it is one of the hours that a route holds in, by the clock of its time zone."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from dcrouter.config.times import DAY, TimeWindow


class Times:
    """One `match.time`. The answer is the same for a whole minute, and worked out once in it."""

    __slots__ = ("_answer", "_minute", "_minutes", "_zone")

    def __init__(self, window: TimeWindow) -> None:
        self._minutes = sorted(window.minutes())
        self._zone = None if window.zone is None else ZoneInfo(window.zone)
        self._minute = -1
        self._answer = False

    def hold(self, now: float) -> bool:
        """`now`: UTC epoch seconds."""
        minute = int(now // 60)
        if minute != self._minute:
            self._minute = minute
            self._answer = self._at(now)
        return self._answer

    def _at(self, now: float) -> bool:
        there = datetime.fromtimestamp(now, self._zone)
        of_week = there.weekday() * DAY + there.hour * 60 + there.minute
        return any(first <= of_week < end for first, end in self._minutes)
