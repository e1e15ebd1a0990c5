"""Calls that take long, out of the engine's way: a few threads that run nothing but such calls.

A call must let go of the GIL for its whole length (a system call, a hash in C), or it would hold the engine up all the
same. A coroutine waits for the result as for anything else: `await threads.call(task, os.pread, fd, size, offset)`.

The threads begin with the first call, and end when nobody holds the `Threads` any more.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar
from weakref import finalize

from dcrouter.errors import DcrouterError
from dcrouter.net.engine import WAIT, Engine, Task

T = TypeVar("T")

COUNT = 2
MOST = 64
"""Calls that may wait or run at once; who comes then is told Busy."""


class Busy(DcrouterError):
    """Too many calls wait already."""


class Threads:
    """`count` of them. Kept by name in proxy/state, they outlive a reload."""

    __slots__ = ("__weakref__", "_count", "_crew", "most")

    def __init__(self, count: int = COUNT, most: int = MOST) -> None:
        self._count = count
        self._crew: _Crew | None = None
        self.most = most

    @property
    def waiting(self) -> int:
        """Calls that wait or run."""
        return self._crew.waiting if self._crew is not None else 0

    async def call(
        self, task: Task, function: Callable[..., T], *args: Any, discard: Callable[[T], object] | None = None
    ) -> T:
        """What `function` gives or raises; Busy. `discard` gets a result that nobody waits for any more."""
        crew = self._crew
        if crew is None or crew.engine is not task.engine:
            crew = self._crew = _Crew(task.engine, self._count)
            finalize(self, crew.end).atexit = False
        if crew.waiting >= self.most:
            raise Busy("too many calls wait")
        job = _Job(task, partial(function, *args), discard)
        crew.put(job)
        try:
            while not job.done:
                await WAIT
        finally:
            job.wanted = False
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result


class _Job:
    __slots__ = ("call", "discard", "done", "error", "result", "task", "wanted")

    def __init__(self, task: Task, call: Callable[[], Any], discard: Callable[[Any], object] | None) -> None:
        self.task = task
        self.call = call
        self.discard = discard
        self.done = False
        self.wanted = True
        self.result: Any = None
        self.error: Exception | None = None


class _Crew:
    """The threads, and the descriptor by which they wake the engine. Nothing of it refers to its Threads."""

    def __init__(self, engine: Engine, count: int) -> None:
        self.engine = engine
        self.waiting = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[_Job] = deque()
        self._left = count
        self._lock = threading.Lock()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._count = count
        engine.listen(self._event, self._collect)
        for number in range(count):
            threading.Thread(target=self._work, name=f"call-{number}", daemon=True).start()

    def put(self, job: _Job) -> None:
        self.waiting += 1
        self._jobs.put(job)

    def end(self) -> None:
        """Let the threads go when they have done what they were asked for."""
        with contextlib.suppress(OSError, ValueError):  # an engine that has stopped watches nothing
            self.engine.unlisten(self._event)
        for _ in range(self._count):
            self._jobs.put(None)

    def _collect(self) -> None:
        os.eventfd_read(self._event)
        while self._done:
            job = self._done.popleft()
            self.waiting -= 1
            job.done = True
            if job.wanted:
                self.engine.again(job.task)
            else:
                _discard(job)

    def _work(self) -> None:
        """In a thread."""
        while (job := self._jobs.get()) is not None:
            try:
                job.result = job.call()
            except Exception as error:
                job.error = error
            self._done.append(job)
            del job
            os.eventfd_write(self._event, 1)
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            while self._done:
                _discard(self._done.popleft())
            os.close(self._event)


def _discard(job: _Job) -> None:
    if job.error is None and job.discard is not None:
        job.discard(job.result)
