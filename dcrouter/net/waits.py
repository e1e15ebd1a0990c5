"""Bounded waits of coroutines on the reactor; whatever is cancelled is waited for."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


async def within(reactor: Any, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; it is cancelled, and twisted's TimeoutError raised, when it takes longer."""
    return await Deferred.fromCoroutine(work).addTimeout(seconds, reactor)


def cancellable(work: Deferred[T]) -> Deferred[T]:
    """`work`, which fails with CancelledError and nothing else when it is cancelled.

    Twisted's endpoints and HTTP client turn a cancel into errors of their own: a failed lookup, among others.
    """
    cancelled = False

    def cancel(_: object) -> None:
        nonlocal cancelled
        cancelled = True
        work.cancel()

    result: Deferred[T] = Deferred(cancel)

    def done(value: T | Failure) -> None:
        if not result.called:
            result.callback(Failure(CancelledError()) if cancelled else value)

    work.addBoth(done)
    return result


async def finish(work: Deferred[Any]) -> None:
    """Wait for the end of `work`, good or bad; who is cancelled meanwhile goes on to wait, and is cancelled then."""
    cancelled: CancelledError | None = None
    over = False
    waiting: Deferred[None] = Deferred()

    def ended(_: object) -> None:
        nonlocal over
        over = True
        if not waiting.called:
            waiting.callback(None)

    work.addBoth(ended)
    while not over:
        try:
            await waiting
        except CancelledError as error:
            cancelled, waiting = error, Deferred()
    if cancelled is not None:
        raise cancelled
