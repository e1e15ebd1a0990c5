"""The children's reactor: Twisted's on epoll, with less around every event, and a way to wait for a quiet moment.

1. twisted.python.log.callWithLogger puts a dictionary of its own around each read and write, for the `system` of its
   old log; nobody reads that here, and a mail connection of ten reads pays a tenth of its processor time for it.
2. `when_idle`: what is better done for many at once is done when nothing else is ready, or a little later.
3. `follow`: another loop waits in its place, and hears of its descriptors as of one of its own. So there is one wait
   for both, which ends when the reactor's next timer is due: the edge serves its connections without a turn of the
   reactor around each batch of them.
4. Timers go by seconds that nobody can set. Twisted's own go by the wall clock: set back by a day, none would fire for
   a day; set forward, all would at once.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.main import installReactor
from twisted.logger import Logger


class Leader(Protocol):
    """A loop that waits in the reactor's place (net/engine.py)."""

    def work(self, patience: Callable[[], float]) -> bool:
        """Wait for at most `patience()` seconds (-1: for ever), serve, and say whether the reactor has something to do
        with its own descriptors.
        """


class Leading(Protocol):
    """A reactor that follows one."""

    def follow(self, leader: Leader | None) -> int:
        """Let it wait from now on, or nobody; gives the descriptor that it has to watch for us."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall: ...


class Reactor(EPollReactor):
    """An error that a protocol lets through is logged, and the loop goes on."""

    _log = Logger()
    seconds = staticmethod(monotonic)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._quiet: list[Callable[[], object]] = []
        self._quiet_by = 0.0
        self._leader: Leader | None = None

    def follow(self, leader: Leader | None) -> int:
        """As Leading.follow."""
        self._leader = leader
        number: int = self._poller.fileno()
        return number

    def _patience(self) -> float:
        wait: float | None = 0.0 if self._quiet else self.timeout()
        return -1.0 if wait is None else wait

    def when_idle(self, call: Callable[[], object], within: float) -> None:
        """Call it once, before this waits for events; or in between, when `within` seconds have passed."""
        by = monotonic() + within
        if not self._quiet or by < self._quiet_by:
            self._quiet_by = by
        self._quiet.append(call)

    def doPoll(self, timeout: float | None) -> None:
        """Wait for at most `timeout` seconds (None: for ever) and serve what is ready."""
        selectables = self._selectables
        if self._leader is None:
            wait = 0.0 if self._quiet else -1 if timeout is None else timeout
        elif self._leader.work(self._patience) or self._quiet:
            wait = 0.0
        else:
            return
        try:
            events = self._poller.poll(wait, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        if self._quiet and (not events or monotonic() >= self._quiet_by):
            calls, self._quiet = self._quiet, []
            for call in calls:
                try:
                    call()
                except Exception:
                    self._log.failure("what waited for a quiet moment has failed")
        serve = self._doReadOrWrite
        for fd, event in events:
            selectable = selectables.get(fd)
            if selectable is not None:
                try:
                    serve(selectable, fd, event)  # type: ignore[no-untyped-call]
                except Exception:
                    self._log.failure("a descriptor's events could not be served")

    doIteration = doPoll


WhenIdle = Callable[[Callable[[], object], float], None]


def when_idle(reactor: object) -> WhenIdle:
    """As Reactor.when_idle; at once where the reactor cannot tell that nothing is ready."""
    found: WhenIdle = getattr(reactor, "when_idle", _at_once)
    return found


def _at_once(call: Callable[[], object], within: float) -> None:
    call()


def steady(reactor: Any) -> None:
    """The same for timers of another reactor, which has none yet."""
    reactor.seconds = monotonic


def install() -> None:
    """Make it this process's reactor, before anybody imports one."""
    installReactor(Reactor())
