"""How long a CA is waited for, work that several wait for, and bounded fan-out."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.defer import FirstError as _FirstError
from twisted.python.failure import Failure

T = TypeVar("T")


@frozen(kw_only=True)
class Patience:
    """Seconds. `connect`: to the CA, TLS included; `answer`: of it to one request, body included; `solver`: a solver,
    to present or to clean up; `validation`: the CA, to look at one challenge; `issuance`: the CA, to make a certificate
    of an order that is ready. `pause`, `pause_at_most`: between two looks at what is not done yet; it doubles.
    `retry_at_most`: between them, whatever Retry-After says; never less than `pause`.
    """

    connect: float = 10.0
    answer: float = 30.0
    solver: float = 180.0
    validation: float = 180.0
    issuance: float = 300.0
    pause: float = 0.2
    pause_at_most: float = 5.0
    retry_at_most: float = 60.0


class Shared(Generic[T]):
    """Work that is done once for all who ask while it goes on; it is cancelled with the last of them.

    Who comes later has it done again. All are told from one place: locks that hand on to each other nest their
    coroutines, and two hundred of those are too deep for Python.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._asking: list[Deferred[T]] = []

    async def get(self) -> T:
        """What it gives or raises."""
        asking = self._asking
        mine: Deferred[T] = Deferred(lambda mine: self._left(asking, mine))
        asking.append(mine)
        if len(asking) == 1:
            self._running = Deferred.fromCoroutine(self._work())
            self._running.addBoth(self._done, asking)
        return await mine

    def _left(self, asking: list[Deferred[T]], mine: Deferred[T]) -> None:
        asking.remove(mine)
        if not asking and asking is self._asking:
            self._asking = []
            self._running.cancel()

    def _done(self, result: T | Failure, asking: list[Deferred[T]]) -> None:
        if asking is self._asking:
            self._asking = []
        for one in tuple(asking):
            if not one.called:
                one.callback(result)


async def for_each(items: Iterable[T], do: Callable[[T], Coroutine[Any, Any, None]], at_once: int) -> None:
    """`do` each, at most `at_once` together. The first error ends the rest, and is raised when they have ended."""
    left = iter(items)

    async def work() -> None:
        for item in left:
            await do(item)

    workers = [Deferred.fromCoroutine(work()) for _ in range(at_once)]
    try:
        await gatherResults(workers, consumeErrors=True)
    except _FirstError as error:
        error.subFailure.raiseException()
    finally:
        for worker in workers:
            worker.cancel()
        await DeferredList(workers, consumeErrors=True)
