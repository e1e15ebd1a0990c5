"""Messages that wait in memory for a connection to one next hop: the highest priority first, then in order (RFC 6710
4.1). Its gates know how many there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcrouter.mail.delivery.sending import Sending
    from dcrouter.mail.shaping.gates import Gates


class Line:
    """`now`: seconds, to know how long they have been waiting."""

    def __init__(self, gates: Gates, now: Callable[[], float]) -> None:
        self._gates = gates
        self._now = now
        self._line: deque[tuple[Sending, float]] = deque()
        self._ranked = False  # whether somebody in it may have a priority

    def __len__(self) -> int:
        return len(self._line)

    @property
    def age(self) -> float:
        """Seconds for which somebody has been waiting, who is the first one if all are alike."""
        if not self._line:
            return 0.0
        return self._now() - (min(since for _, since in self._line) if self._ranked else self._line[0][1])

    def __iter__(self) -> Iterator[Sending]:
        return (sending for sending, _ in self._line)

    def append(self, sending: Sending) -> None:
        priority = sending.transaction.wishes.priority
        if priority or self._ranked:
            self._ranked = True
            at = len(self._line)
            while at and self._line[at - 1][0].transaction.wishes.priority < priority:
                at -= 1
            self._line.insert(at, (sending, self._now()))
        else:
            self._line.append((sending, self._now()))
        self._gates.came()

    def put_first(self, sending: Sending) -> None:
        self._ranked = self._ranked or sending.transaction.wishes.priority != 0
        self._line.appendleft((sending, self._now()))
        self._gates.came()

    def next(self) -> Sending:
        """The first one, which leaves the line."""
        self._gates.left()
        sending = self._line.popleft()[0]
        self._ranked = self._ranked and bool(self._line)
        return sending

    def cut(self, keep: int) -> list[Sending]:
        """Those behind the first `keep`, which leave the line."""
        gone = [self._line.pop()[0] for _ in range(len(self._line) - keep)]
        self._gates.left(len(gone))
        return gone[::-1]
