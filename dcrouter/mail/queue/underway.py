"""How many attempts are under way, and who waits until none is."""

from __future__ import annotations

from twisted.internet.defer import Deferred


class UnderWay:
    """An attempt is, from its beginning until what came of it is written."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[Deferred[None]] = []

    def begin(self) -> None:
        self._count += 1

    def over(self) -> None:
        """One of them."""
        self._count -= 1
        if not self._count:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                waiter.callback(None)

    def when_none(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        if self._count:
            self._waiting.append(waiter)
        else:
            waiter.callback(None)
        return waiter
