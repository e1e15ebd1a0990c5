"""Connections to targets that wait for the next request: taken youngest first, closed when they have waited too long.

One that waits stays with the engine, as a task of its own: its end, or a word that nobody asked for, closes it at once,
so a look at what is latched already tells whether it lives. What happens between that look and the request is met by
asking again (proxy/http/forward.py).
"""

from __future__ import annotations

import resource
from collections.abc import Hashable

from dcrouter.errors import TlsError
from dcrouter.net.engine import IN, NOTHING, READABLE, URGENT, Engine, Task
from dcrouter.net.stream import Plain, Stream
from dcrouter.net.wheel import NEVER

IDLE = 30.0
"""Seconds that a connection waits. Most servers allow more (nginx 75, HAProxy 60), and those that do not say so by
closing."""
IDLE_EACH = 256
"""Connections that wait for one target."""
IDLE_SHARE = 8
"""Of the descriptors of this process at most one in so many is a connection that waits."""


class Kept(Task):
    """A connection to a target, which outlives requests. Taken, it wakes the task that took it; waiting, its own."""

    __slots__ = ("key", "label", "plain", "pool", "stream", "used", "waiting")

    def __init__(self, pool: Pool, engine: Engine, key: Hashable, stream: Stream, label: str) -> None:
        super().__init__(engine)
        self.pool = pool
        self.key = key
        self.label = label
        self.stream = stream
        self.plain = stream if isinstance(stream, Plain) else stream.plain
        self.used = False
        self.waiting = False
        self.steps = iter(self._news, True)

    def is_quiet(self, sure: bool = False) -> bool:
        """Whether nothing has come, as far as the engine has heard; `sure`: ask the kernel."""
        ready = self.plain.ready
        if not sure and not ready & (READABLE | URGENT):
            return True
        self.plain.ready = ready | IN
        try:
            return self.stream.recv() is None  # of a TLS session: tickets, perhaps, which are no news
        except (OSError, TlsError):
            return False

    def close(self) -> None:
        """The connection ends. No cycle is left, so its memory, of which TLS has much, is free at once."""
        self.steps = NOTHING
        self.stream.close()
        self.plain.task = Task(self.engine)

    def _news(self) -> None:
        if self.waiting and not self.is_quiet():
            self.pool.drop(self)

    def throw(self, error: BaseException) -> None:
        """It has waited long enough."""
        if self.waiting:
            self.pool.drop(self)
            self.engine.settle()


class Pool:
    """Those of one edge. `most`: how many may wait at once; `waiting`: how many do."""

    def __init__(self) -> None:
        self.most = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // IDLE_SHARE, 8)
        self.waiting = 0
        self._waiting: dict[Hashable, list[Kept]] = {}  # of keys of which none waits nothing is kept

    def take(self, key: Hashable, task: Task, sure: bool = False) -> Kept | None:
        """One that lives, for `task`, or None. `sure`: the request must not be sent twice, so look twice."""
        while (waiting := self._waiting.get(key)) is not None:
            kept = waiting.pop()
            if not waiting:
                del self._waiting[key]
            self.waiting -= 1
            kept.waiting = False
            if kept.is_quiet(sure):
                kept.used = True
                kept.plain.task = task
                kept.deadline = NEVER
                return kept
            kept.close()
        return None

    def new(self, key: Hashable, stream: Stream, task: Task, label: str) -> Kept:
        """A connection that was just made, for `task`; `label`: of whom it is to, for logs."""
        return Kept(self, task.engine, key, stream, label)

    def give(self, kept: Kept) -> None:
        """Nothing is under way on it any more: let it wait, or close it where enough others do."""
        waiting = self._waiting.get(kept.key, ())
        if self.waiting >= self.most or len(waiting) >= IDLE_EACH or kept.plain.ready & (READABLE & ~IN):
            kept.close()
            return
        self._waiting.setdefault(kept.key, []).append(kept)
        self.waiting += 1
        kept.waiting = True
        kept.plain.task = kept
        engine = kept.engine
        kept.deadline = engine.now + IDLE
        if kept.due == NEVER:  # it only ever moves on, and the wheel looks again
            engine.wheel.arm(kept)
        if kept.plain.ready & IN:
            engine.again(kept)

    def drop(self, kept: Kept) -> None:
        """Close one that waits."""
        waiting = self._waiting[kept.key]
        waiting.remove(kept)
        if not waiting:
            del self._waiting[kept.key]
        self.waiting -= 1
        self._close(kept)

    def forget(self, key: Hashable) -> None:
        """Close those that wait for a request of this key."""
        for kept in list(self._waiting.get(key, ())):
            self.drop(kept)

    def clear(self) -> None:
        """Close all that wait."""
        for waiting in self._waiting.values():
            for kept in waiting:
                self._close(kept)
        self._waiting.clear()
        self.waiting = 0

    def _close(self, kept: Kept) -> None:
        kept.waiting = False
        kept.deadline = NEVER
        kept.engine.wheel.disarm(kept)
        kept.close()
