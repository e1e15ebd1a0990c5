"""When queued mail is due again: one timer for the earliest, and a walk through what is due, a page at a time.

Nothing polls. A walk reads pages behind a cursor until it has seen all that is due or there is no room for more
attempts; then it goes on as soon as there is. What an attempt holds is claimed in memory and passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.mail.queue.store import START, Due, Store

PAGE = 200
"""Recipients read at once: about two milliseconds of the reactor's time."""

READ_AGAIN = 5.0
"""Seconds after a page that could not be read."""

LONGEST_SLEEP = 3600.0
"""Seconds; a clock that was set is noticed by then."""


class Schedule:
    """`start` takes due recipients; `has_room` says whether more may be started; `now` is the wall clock of due
    times.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        clock: IReactorTime,
        now: Callable[[], float],
        start: Callable[[Iterable[Due]], None],
        has_room: Callable[[], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._now = now
        self._start = start
        self._has_room = has_room
        self._timer: IDelayedCall | None = None
        self._timer_due = 0.0
        self._cursor = START
        self._walking = False
        self._again = False
        self._waits = False
        self._stopped = False

    @property
    def reading(self) -> bool:
        """Whether a page is on its way, which may show what has been settled meanwhile."""
        return self._walking

    def stop(self) -> None:
        """Nothing is started any more."""
        self._stopped = True
        self._cancel()

    def wake_at(self, due: float) -> None:
        """Something will be due then; earlier wakings stay."""
        if self._stopped or (self._timer is not None and self._timer_due <= due):
            return
        self._cancel()
        self._timer_due = due
        delay = min(max(due - self._now(), 0.0), LONGEST_SLEEP)
        self._timer = self._clock.callLater(delay, self._wake)

    def walk(self) -> None:
        """Starts what is due now, as far as there is room. Under way already, it begins anew at its end: what is due
        since may be behind the cursor.
        """
        self._again = self._walking or self._cursor != START
        self.go_on()

    def go_on(self) -> None:
        """The next page, if there is room for it; if not, this is to be called when there is."""
        if self._walking:
            return
        self._waits = self._stopped or not self._has_room()
        if self._waits:
            return
        self._walking = True
        now = self._now()
        self._store.due(self._cursor, now, PAGE).addCallbacks(self._page, self._unread, callbackArgs=(now,))

    @property
    def waits_for_room(self) -> bool:
        return self._waits

    def _wake(self) -> None:
        self._timer = None
        self.walk()

    def _page(self, page: list[Due], now: float) -> None:
        if self._stopped:
            self._walking = False
            return
        self._start(page)
        self._walking = False
        if len(page) == PAGE:
            self._cursor = page[-1].at
            self.go_on()
            return
        self._cursor = START
        if self._again:
            self.walk()
            return
        self._store.next_due(now).addCallbacks(self._sleep, self._unread)

    def _sleep(self, due: float | None) -> None:
        if due is not None:
            self.wake_at(due)

    def _unread(self, failure: Failure) -> None:
        self._walking = False
        if not self._stopped:
            self._log.error("due mail could not be read, trying again: {reason}", reason=failure.getErrorMessage())
            self.wake_at(self._now() + READ_AGAIN)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
