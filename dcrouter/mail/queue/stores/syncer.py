"""Syncs of the WAL, several at a time where the disk is slow: who writes does not wait for it.

1. A group of puts is written by a commit that syncs nothing. It is durable when an fdatasync of the WAL that began
   after that commit has ended.
2. A fast sync is done at once, by the thread that writes. Where they are slow (a disk behind a network), THREADS
   threads do them side by side, each for whatever has been written and waits.
3. Groups are durable in the order in which they were written: what follows a frame of the WAL that did not reach the
   disk is out of reach after a power failure, whatever its own sync has said. So from a failure on all have failed,
   until the writer has begun the log anew.

Each thread has a descriptor of its own, from the beginning: Linux tells each of an error once, if it was open then.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic

from attrs import define

from dcrouter.mail.queue.stores.groups import Puts

THREADS = 4
"""Of which one begins whenever another ends: a message waits for little more than one sync, at a quarter of the
syncs' time between two of them."""

SLOW = 0.001
"""Seconds of a sync from which on others do it: handing it over costs a tenth of that."""

_SHARE = 0.125
"""Of the last sync in the usual time of one."""


@define(eq=False)
class Sync:
    """One that was begun, and the groups that it is for."""

    groups: list[Puts]
    ended: bool = False
    error: OSError | None = None


class Syncer:
    """`path`: of the WAL, which is there. `durable` hears of each group that is, `failed` that there are some that will
    not be; both in any thread. `error`: why all fails.
    """

    def __init__(self, path: str, durable: Callable[[Puts], None], failed: Callable[[], None]) -> None:
        self.error: OSError | None = None
        self._durable = durable
        self._on_failure = failed
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)
        self._waiting: list[Puts] = []
        self._under_way: deque[Sync] = deque()
        self._failed: list[Puts] = []
        self._usual = 0.0
        self._bell: SimpleQueue[bool] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for _ in range(1 + THREADS)]

    @property
    def slow(self) -> bool:
        """Whether the disk is."""
        return self._usual >= SLOW

    @property
    def failed(self) -> bool:
        """Whether there are groups that were written and will not be durable."""
        return bool(self._failed)

    def add(self, group: Puts) -> None:
        """It has been written. Only the writer's thread calls this, and all that follows."""
        with self._lock:
            self._waiting.append(group)
            sync = self._next() if not (self.slow or self._under_way) else None
        if sync is not None:
            self._run(sync, self._descriptors[0])
            return
        if not self._threads:
            for descriptor in self._descriptors[1:]:
                thread = threading.Thread(target=self._work, args=(descriptor,), name="mail-sync", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._bell.put(True)

    def drain(self) -> list[Puts]:
        """Waits until nothing is under way; gives the groups that failed, once."""
        with self._lock:
            while self._waiting or self._under_way:
                self._quiet.wait()
            failed, self._failed = self._failed, []
            return failed

    def begin_anew(self) -> None:
        """All that was written is durable by other means; nothing is under way."""
        self.error = None

    def close(self) -> None:
        """After `drain`."""
        for _ in self._threads:
            self._bell.put(False)
        for thread in self._threads:
            thread.join()
        for descriptor in self._descriptors:
            os.close(descriptor)

    def _work(self, descriptor: int) -> None:
        while self._bell.get():
            with self._lock:
                sync = self._next()
            if sync is not None:  # else the one before took its group as well
                self._run(sync, descriptor)

    def _next(self) -> Sync | None:
        if not self._waiting:
            return None
        sync = Sync(self._waiting)
        self._waiting = []
        self._under_way.append(sync)
        return sync

    def _run(self, sync: Sync, descriptor: int) -> None:
        began = monotonic()
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            sync.error = error
        durable: list[Puts] = []
        with self._lock:
            self._usual += (monotonic() - began - self._usual) * _SHARE
            sync.ended = True
            while self._under_way and self._under_way[0].ended:
                first = self._under_way.popleft()
                self.error = self.error or first.error
                (self._failed if self.error else durable).extend(first.groups)
            failed = bool(self._failed)
            if not self._under_way:
                self._quiet.notify_all()
        for group in durable:
            self._durable(group)
        if failed:
            self._on_failure()
