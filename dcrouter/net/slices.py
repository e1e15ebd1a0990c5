"""Long work in short slices, where a loop must not wait: a table of 10 000 routes is made beside its traffic.

Work that may be long is a generator that yields now and then, and returns its result. At a start nothing waits, and it
runs to its end (`finished`); beside traffic it runs for SLICE seconds at a time (`in_slices`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

SLICE = 0.003
"""Seconds of work at a time; between two slices the reactor, and so the engine, gets its turn."""

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work in steps, none of them longer than a millisecond or so."""


class CallLater(Protocol):
    """What is needed of a reactor."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall: ...


def finished(steps: Steps[T]) -> T:
    """The result, at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def in_slices(reactor: CallLater, steps: Steps[T], clock: Callable[[], float] = time.monotonic) -> Deferred[T]:
    """The result, some time; fails with what the steps raise. A cancelled one goes no further."""
    later: list[IDelayedCall] = []

    def cancel(_: Deferred[T]) -> None:
        for call in later:
            call.cancel()
        steps.close()

    done: Deferred[T] = Deferred(cancel)

    def work() -> None:
        later.clear()
        end = clock() + SLICE
        try:
            while clock() < end:
                next(steps)
        except StopIteration as stop:
            done.callback(stop.value)
        except Exception:
            done.errback(Failure())
        else:
            later.append(reactor.callLater(0, work))

    later.append(reactor.callLater(0, work))
    return done


def released(things: list[Any]) -> Steps[None]:
    """Let go of what nobody else needs any more, one by one: the end of a million objects takes its time too."""
    while things:
        things.pop()
        yield
