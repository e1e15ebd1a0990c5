"""The children's reactor: Twisted's on epoll, with less around every event, and a way to wait for a quiet moment.

1. twisted.python.log.callWithLogger puts a dictionary of its own around each read and write, for the `system` of its
   old log; nobody reads that here, and a mail connection of ten reads pays a tenth of its processor time for it.
2. `when_idle`: what is better done for many at once is done when nothing else is ready, or a little later.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from time import monotonic

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger


class Reactor(EPollReactor):
    """An error that a protocol lets through is logged, and the loop goes on."""

    _log = Logger()

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._quiet: list[Callable[[], object]] = []
        self._quiet_by = 0.0

    def when_idle(self, call: Callable[[], object], within: float) -> None:
        """Call it once, before this waits for events; or in between, when `within` seconds have passed."""
        by = monotonic() + within
        if not self._quiet or by < self._quiet_by:
            self._quiet_by = by
        self._quiet.append(call)

    def doPoll(self, timeout: float | None) -> None:
        """Wait for at most `timeout` seconds (None: for ever) and serve what is ready."""
        selectables = self._selectables
        wait = 0.0 if self._quiet else -1 if timeout is None else timeout
        try:
            events = self._poller.poll(wait, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        if self._quiet and (not events or monotonic() >= self._quiet_by):
            calls, self._quiet = self._quiet, []
            for call in calls:
                call()
        serve = self._doReadOrWrite
        for fd, event in events:
            selectable = selectables.get(fd)
            if selectable is not None:
                try:
                    serve(selectable, fd, event)  # type: ignore[no-untyped-call]
                except Exception:
                    self._log.failure("a descriptor's events could not be served")

    doIteration = doPoll


def install() -> None:
    """Make it this process's reactor, before anybody imports one."""
    installReactor(Reactor())
