"""Times in the queue go along with a clock that was set: those in the store, and those of mail that is under way."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from dcrouter.mail.message import Message
from dcrouter.mail.queue.store import Store


class Moved:
    """`total`: seconds by which the clock was set since the start. `busy`: what is read now may be of before. `done` is
    called when that is over.
    """

    def __init__(self, store: Store, done: Callable[[], None]) -> None:
        self.total = 0.0
        self._store = store
        self._done = done
        self._under_way = 0

    @property
    def busy(self) -> bool:
        return self._under_way > 0

    def clock_set(self, seconds: float) -> None:
        self.total += seconds
        self._under_way += 1
        self._store.shift(seconds).addBoth(self._shifted)

    def followed(self, message: Message, since: float) -> Message:
        """A message whose attempt began when `total` was `since`, by the clock of now."""
        if since == self.total:
            return message
        return evolve(message, received=message.received + self.total - since)

    def _shifted(self, _: object) -> None:
        self._under_way -= 1
        self._done()
