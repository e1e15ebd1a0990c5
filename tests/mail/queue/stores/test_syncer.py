"""Syncs of the WAL where they are slow: several at a time, and durable in the order in which they were written."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.mail.queue.stores.groups import Puts
from dcrouter.mail.queue.stores.syncer import SLOW, THREADS, Syncer

DEADLINE = 120.0


class Gate:
    """In the place of fdatasync: each call waits until it is let through, with an error or without."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._calls: list[tuple[threading.Event, list[OSError]]] = []

    def sync(self, descriptor: int) -> None:
        call: tuple[threading.Event, list[OSError]] = (threading.Event(), [])
        with self._lock:
            self._calls.append(call)
        self.began.release()
        assert call[0].wait(DEADLINE)
        if call[1]:
            raise call[1][0]

    def wait(self) -> None:
        """Until one more has begun."""
        assert self.began.acquire(timeout=DEADLINE)

    def end(self, number: int, error: int = 0) -> None:
        """The call that began as that one, from 0, is over."""
        event, errors = self._calls[number]
        if error:
            errors.append(OSError(error, os.strerror(error)))
        event.set()


class SyncerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[Puts] = []
        self.news = threading.Condition()
        self.gate = Gate()
        self.failures = 0
        path = Path(self.mktemp())
        path.write_bytes(b"")
        self.syncer = Syncer(str(path), self.durable, self.failed)
        self.addCleanup(self.close)

    def close(self) -> None:
        self.syncer.drain()
        self.syncer.close()

    def durable(self, group: Puts) -> None:
        with self.news:
            self.told.append(group)
            self.news.notify_all()

    def failed(self) -> None:
        with self.news:
            self.failures += 1
            self.news.notify_all()

    def until(self, fact: Callable[[], bool]) -> None:
        with self.news:
            self.assertTrue(self.news.wait_for(fact, DEADLINE))

    def slow(self, count: int) -> list[Puts]:
        """So many groups, whose syncs are under way."""
        self.syncer._usual = 100 * SLOW
        self.patch(os, "fdatasync", self.gate.sync)
        groups = [Puts() for _ in range(count)]
        for group in groups:
            self.syncer.add(group)
            self.gate.wait()
        return groups

    def test_a_fast_sync_is_done_at_once(self) -> None:
        """In the thread that writes: no other is needed."""
        group = Puts()
        self.syncer.add(group)
        self.assertEqual(self.told, [group])
        self.assertEqual(self.syncer._threads, [])

    def test_slow_ones_are_side_by_side(self) -> None:
        """As many as there are threads; whoever comes later shares the one that begins next."""
        groups = self.slow(THREADS)
        later = [Puts(), Puts()]
        for group in later:
            self.syncer.add(group)
        self.gate.end(0)
        self.gate.wait()
        self.until(lambda: self.told == groups[:1])
        for number in range(1, THREADS + 1):
            self.gate.end(number)
        self.until(lambda: self.told == groups + later)

    def test_nobody_is_durable_before_those_written_before(self) -> None:
        """The end of a later sync tells nobody anything yet."""
        groups = self.slow(3)
        self.gate.end(2)
        self.gate.end(1)
        self.assertEqual(self.told, [])
        self.gate.end(0)
        self.until(lambda: self.told == groups)

    def test_what_follows_a_failure_has_failed(self) -> None:
        """Whatever its own sync said, and what is written later too, until the log has begun anew."""
        groups = self.slow(3)
        self.gate.end(0)
        self.until(lambda: self.told == groups[:1])
        self.gate.end(2)
        self.gate.end(1, errno.EIO)
        self.until(lambda: self.failures > 0)
        after = Puts()
        self.syncer.add(after)
        self.gate.wait()
        self.gate.end(3)
        self.assertEqual(self.syncer.drain(), [*groups[1:], after])
        self.assertEqual(self.syncer.drain(), [])
        assert self.syncer.error is not None
        self.assertEqual(self.syncer.error.errno, errno.EIO)
        self.syncer.begin_anew()
        anew = Puts()
        self.syncer.add(anew)
        self.gate.wait()
        self.gate.end(4)
        self.until(lambda: self.told == [groups[0], anew])
