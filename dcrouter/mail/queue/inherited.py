"""Mail that an earlier run has told to wait, for the end of a pause or for a rate: it is woken as mail of this run is.

Who waits for what is memory (wakes.py). After a start it is found in the replies, which say so: those there are, at
once and once; who waits with one of them when that is over.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.mail.queue.endings import rounded
from dcrouter.mail.queue.store import Store
from dcrouter.mail.queue.waits import PAUSED, RATE_REACHED, beginning_of
from dcrouter.mail.queue.wakes import PACE

MOST = 1000
"""Different replies that are remembered; who waits with another one waits for his time."""


class Inherited:
    """`now`: UTC epoch seconds. `resumed` is called when some of it may be due."""

    _log = Logger()

    def __init__(self, store: Store, now: Callable[[], float], resumed: Callable[[None], None]) -> None:
        self._store = store
        self._now = now
        self._resumed = resumed
        self._replies: set[str] | None = None
        self._early: list[str] = []

    def start(self) -> None:
        """Looks what there is."""
        self._store.replies((RATE_REACHED, PAUSED), rounded(self._now()), MOST).addCallbacks(self._found, self._unread)

    def wake(self, target: str) -> None:
        """Those that wait for this are due, paced."""
        if self._replies is None:
            if len(self._early) < MOST:
                self._early.append(target)
            return
        beginning = beginning_of(target) if self._replies else None
        found = {reply for reply in self._replies if beginning is not None and reply.startswith(beginning)}
        if beginning is not None and found:
            self._replies -= found
            woken: Deferred[None] = self._store.advance(beginning, rounded(self._now()), PACE)
            woken.addCallbacks(self._resumed, self._unread)

    def _found(self, replies: list[str]) -> None:
        self._replies = set(replies)
        for target in self._early:
            self.wake(target)
        self._early.clear()

    def _unread(self, failure: Failure) -> None:
        self._log.warn("mail of an earlier run waits for its time: {reason}", reason=failure.getErrorMessage())
