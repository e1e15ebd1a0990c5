"""Failed mail of which nobody was told stays for a while, so that an operator may look at it, and then leaves."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.mail.queue.store import Entry, Store

PAGE = 500

LONGEST_SLEEP = 3600.0
"""Seconds; a clock that was set is noticed by then."""

AGAIN = 60.0
"""Seconds after a page that could not be read or removed."""


class Expiry:
    """Removes what has been failed for `age` seconds. `now`: the wall clock. One timer, for the first that is due."""

    _log = Logger()

    def __init__(self, store: Store, age: float, clock: IReactorTime, now: Callable[[], float]) -> None:
        self._store = store
        self._age = age
        self._clock = clock
        self._now = now
        self._timer: IDelayedCall | None = None
        self._running = False
        self._stopped = False

    def start(self) -> None:
        """Takes up what an earlier run left."""
        if not self._running and not self._stopped:
            self._running = True
            Deferred.fromCoroutine(self._expire()).addCallbacks(self._sleep, self._failed)

    def reload(self, age: float) -> None:
        """Another age, also for what has failed already."""
        if age == self._age:
            return
        self._age = age
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.start()

    def expect(self) -> None:
        """Something has failed just now."""
        if self._timer is None and not self._running and not self._stopped:
            self._sleep(self._now())

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _expire(self) -> float | None:
        """Since when the first of those that stay has failed."""
        while not self._stopped:
            page = await self._store.failed(self._now() - self._age, PAGE)
            if not page:
                break
            await self._store.remove([entry.key for entry in page])
            for entry in page:
                self._tell(entry)
        return None if self._stopped else await self._store.first_failed()

    def _sleep(self, first: float | None) -> None:
        self._running = False
        if first is not None and not self._stopped:
            # A millisecond more: what is due is what failed before the instant.
            self._wait(first + self._age - self._now() + 0.001)

    def _failed(self, failure: Failure) -> None:
        self._running = False
        if not self._stopped:
            self._log.error(
                "failed mail could not be removed, trying again: {reason}", reason=failure.getErrorMessage()
            )
            self._wait(AGAIN)

    def _wait(self, seconds: float) -> None:
        self._timer = self._clock.callLater(min(max(seconds, 0.0), LONGEST_SLEEP), self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.start()

    def _tell(self, entry: Entry) -> None:
        self._log.warn(
            "message {message} to {recipient} leaves the queue undelivered, nobody was told: {reply}",
            message=f"{entry.message:x}",
            session=entry.session,
            recipient=entry.address,
            reply=entry.reply,
        )
