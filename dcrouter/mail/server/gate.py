"""Slow calls that let go of the GIL, as many at once as there are cores; a bounded line waits before them."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

WAITING = 100
"""Calls that may wait, for each core: some seconds' worth."""
WAITING_OF_ONE = 16
"""Of them, those of one client address; PREFERRED times as many where they are preferred."""
PREFERRED = 4

_Result = TypeVar("_Result")


class Busy(Exception):
    """The line is full."""


@frozen(kw_only=True, eq=False)
class _Turn:
    owner: str
    call: Callable[[], Any]
    result: Deferred[Any]


class Gate:
    """Its threads start with the first call; `close` ends them. `width`: None for as many as there are cores."""

    def __init__(self, reactor: Any, width: int | None = None) -> None:
        self._width = width or len(os.sched_getaffinity(0))
        self._reactor = reactor
        self._pool: ThreadPool | None = None
        self._closed = False
        self._running = 0
        self._preferred: deque[_Turn] = deque()
        self._line: deque[_Turn] = deque()
        self._of_owner: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        return len(self._preferred) + len(self._line)

    def run(self, owner: str, call: Callable[[], _Result], *, preferred: bool = False) -> Deferred[_Result]:
        """What `call` gives. `owner`: on whose behalf; `preferred` ones go first. Raises Busy."""
        full = self.waiting >= WAITING * self._width and not preferred
        most = WAITING_OF_ONE * (PREFERRED if preferred else 1)
        if self._closed or full or self._of_owner[owner] >= most:
            raise Busy
        result: Deferred[_Result] = Deferred()
        self._of_owner[owner] += 1
        (self._preferred if preferred else self._line).append(_Turn(owner=owner, call=call, result=result))
        self._next()
        return result

    def close(self) -> None:
        """Blocks until the calls that run have ended; those that wait never give anything."""
        self._closed = True
        self._preferred.clear()
        self._line.clear()
        if self._pool is not None:
            self._pool.stop()

    def in_thread(self, call: Callable[..., _Result], *args: Any) -> Deferred[_Result]:
        """The same without a line: for what happens seldom. After `close` it never gives anything."""
        if self._closed:  # a thread that began now would be told of no end, and keep the process for ever
            return Deferred()
        if self._pool is None:
            self._pool = ThreadPool(0, self._width, "login")
            self._pool.start()
        return deferToThreadPool(self._reactor, self._pool, call, *args)

    def _next(self) -> None:
        if self._closed or self._running >= self._width or not self.waiting:
            return
        turn = (self._preferred or self._line).popleft()
        self._running += 1
        self.in_thread(turn.call).addBoth(self._done, turn)

    def _done(self, result: Any, turn: _Turn) -> None:
        self._running -= 1
        self._of_owner[turn.owner] -= 1
        if not self._of_owner[turn.owner]:
            del self._of_owner[turn.owner]
        self._next()
        turn.result.callback(result)  # a Failure goes on as one
