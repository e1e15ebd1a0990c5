"""Messages that wait in memory for a connection to one next hop, in order; its gates know how many there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcrouter.mail.delivery.client import Sending
    from dcrouter.mail.shaping.gates import Gates


class Line:
    """`now`: seconds, to know how long the first one has been waiting."""

    def __init__(self, gates: Gates, now: Callable[[], float]) -> None:
        self._gates = gates
        self._now = now
        self._line: deque[tuple[Sending, float]] = deque()

    def __len__(self) -> int:
        return len(self._line)

    @property
    def age(self) -> float:
        """Seconds for which the first one has been waiting."""
        return self._now() - self._line[0][1] if self._line else 0.0

    def __iter__(self) -> Iterator[Sending]:
        return (sending for sending, _ in self._line)

    def append(self, sending: Sending) -> None:
        self._line.append((sending, self._now()))
        self._gates.came()

    def put_first(self, sending: Sending) -> None:
        self._line.appendleft((sending, self._now()))
        self._gates.came()

    def next(self) -> Sending:
        """The first one, which leaves the line."""
        self._gates.left()
        return self._line.popleft()[0]

    def cut(self, keep: int) -> list[Sending]:
        """Those behind the first `keep`, which leave the line."""
        gone = [self._line.pop()[0] for _ in range(len(self._line) - keep)]
        self._gates.left(len(gone))
        return gone[::-1]
