"""What the parent looks at again and again, for as long as it runs."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class Regularly:
    """`act`, each so many seconds from `start` to `stop`. Where it fails that is logged, and it is not the last time.

    `what`: its subject, for the log.
    """

    log = Logger()

    def __init__(self, what: str, act: Callable[[], object], clock: IReactorTime) -> None:
        self._what = what
        self._act = act
        self._loop = LoopingCall(self.act)
        self._loop.clock = clock

    @property
    def running(self) -> bool:
        return bool(self._loop.running)

    def start(self, seconds: float, *, now: bool = False) -> None:
        """`now`: for the first time at once, and not after that time."""
        self._loop.start(seconds, now=now)

    def stop(self) -> None:
        """Idempotent."""
        if self._loop.running:
            self._loop.stop()

    def act(self) -> None:
        """Once, out of turn."""
        try:
            self._act()
        except Exception:
            self.log.failure("{what}: a look at them has failed", what=self._what)
