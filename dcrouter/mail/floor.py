"""The least that a message's body must move, either way: who sends or reads it octet by octet holds no connection
for ever.
"""

from __future__ import annotations

SPAN = 600.0
"""Seconds in which a body must move at least FLOOR octets a second, or end; longer where silence may last longer."""

FLOOR = 1024
"""Octets a second, on average over SPAN: a modem's. RFC 5321 4.5.3.2.5 leaves 3 minutes to each piece."""


class Floor:
    """Of one body that begins at `now`. `moved`: octets of the span that runs, for its owner to count."""

    __slots__ = ("_began", "moved")

    def __init__(self, now: float) -> None:
        self._began = now
        self.moved = 0

    def due(self, now: float, patience: float) -> float:
        """When the next octets must have moved: `patience` seconds from now, and in time for FLOOR."""
        span = max(SPAN, patience)
        if self.moved < FLOOR * span:
            return min(now + patience, self._began + span)
        if now >= self._began + span:
            self._began, self.moved = now, 0
        return now + patience
