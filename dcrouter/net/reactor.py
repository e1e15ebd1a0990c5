"""The children's reactor: Twisted's on epoll, without a log context around every event.

twisted.python.log.callWithLogger puts a dictionary of its own around each read and write, for the `system` of its old
log; nobody reads that here, and a mail connection of ten reads pays a tenth of its processor time for it.
"""

from __future__ import annotations

import errno

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger


class Reactor(EPollReactor):
    """What differs is `doPoll` alone. An error that a protocol lets through is logged, and the loop goes on."""

    _log = Logger()

    def doPoll(self, timeout: float | None) -> None:
        """Wait for at most `timeout` seconds (None: for ever) and serve what is ready."""
        selectables = self._selectables
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
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
    installReactor(Reactor())  # type: ignore[no-untyped-call]
