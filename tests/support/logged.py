"""What is logged, as events."""

from __future__ import annotations

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer


def logged(case: SynchronousTestCase) -> list[LogEvent]:
    """All that comes until the end of the test."""
    heard = _Heard()
    globalLogPublisher.addObserver(heard)
    case.addCleanup(globalLogPublisher.removeObserver, heard)
    return heard.events


@implementer(ILogObserver)
class _Heard:
    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)
