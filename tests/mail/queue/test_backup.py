"""A backup while mail flows: what is in it is whole, and it takes the queue's place."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dcrouter.durable import sync_directory
from dcrouter.errors import StoreError
from dcrouter.mail.message import spool_path
from dcrouter.mail.queue import backup
from dcrouter.mail.queue.backup import back_up
from dcrouter.mail.queue.store import QUEUED, Change
from dcrouter.mail.queue.stores.sqlite import SqliteStore
from tests.mail.queue.made import TEXT, entries, message

BIG = b"Subject: big\r\n\r\n" + b"x" * 100_000


class BackupTests(TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.to = self.directory.with_name(self.directory.name + "-backup")
        self.store = SqliteStore(self.directory, reactor)
        self.store.open()
        self.addCleanup(self.store.close)

    def keep(self, number: int) -> Deferred[None]:
        """A small message, or every third a large one, as reception leaves it."""
        if number % 3:
            return self.store.put(message(number), 1.0)
        path = spool_path(self.store.spool, number)
        path.write_bytes(BIG)
        sync_directory(self.store.spool)
        return self.store.put(message(number, octets=None), 1.0)

    def finish(self, number: int) -> Deferred[None]:
        return self.store.finish(message(number, octets=TEXT if number % 3 else None))

    async def check(self, directory: Path) -> list[int]:
        """All messages of the queue in `directory` are whole, and no file is there without its message; their ids."""
        store = SqliteStore(directory, reactor)
        store.open()
        try:
            found = await entries(store)
            for entry in found:
                if entry.spooled:
                    self.assertEqual(spool_path(store.spool, entry.message).read_bytes(), BIG)
                else:
                    self.assertEqual(await store.octets(message(entry.message)), TEXT)
            self.assertEqual(await store.sweep(), 0)
            self.assertEqual(len(list(store.spool.iterdir())), sum(entry.spooled for entry in found))
        finally:
            store.close()
        return [entry.message for entry in found]

    async def test_a_backup_under_load_restores(self) -> None:
        """Messages come and go while it is made, ten times over: each backup opens as a queue, every message of it is
        whole, and what was there throughout is in it."""
        steady = list(range(1, 31))
        await gatherResults([self.keep(number) for number in steady])
        stop = threading.Event()
        last = 1000

        async def load() -> None:
            nonlocal last
            while not stop.is_set():
                numbers = range(last, last + 30)
                last += 30
                await gatherResults([self.keep(number) for number in numbers])
                await gatherResults([self.finish(number) for number in numbers])

        loading = Deferred.fromCoroutine(load())
        try:
            for round_ in range(10):
                to = self.to.with_name(f"{self.to.name}{round_}")
                made = await deferToThread(back_up, self.directory, to)
                found = await self.check(to)
                self.assertEqual(len(found), made.messages)
                self.assertEqual([number for number in found if number < 1000], steady)
        finally:
            stop.set()
            await loading
        self.assertGreater(last, 1030)

    async def test_a_message_that_leaves_meanwhile_is_left_out(self) -> None:
        """Its row was copied, its file had gone: neither is in the backup."""
        await self.keep(1)
        await self.keep(3)
        await self.keep(6)
        copied = backup._copy_rows

        def then_leave(source: Path, to: Path) -> sqlite3.Connection:
            copy = copied(source, to)
            spool_path(self.store.spool, 3).unlink()
            return copy

        self.patch(backup, "_copy_rows", then_leave)
        made = await deferToThread(back_up, self.directory, self.to)
        self.assertEqual((made.messages, made.files, made.left, made.octets), (2, 1, 1, len(BIG)))
        self.assertEqual(await self.check(self.to), [1, 6])

    async def test_without_links_the_octets_are_copied(self) -> None:
        """On another disk; states and due times are kept as they were."""
        await self.keep(3)
        await self.store.settle(message(3, octets=None), [], [Change(0, QUEUED, 4, 77.0, 1, "451 later")])

        def no_link(*_: object) -> None:
            raise OSError(18, os.strerror(18))

        self.patch(os, "link", no_link)
        made = await deferToThread(back_up, self.directory, self.to)
        self.assertEqual((made.files, made.octets), (1, len(BIG)))
        self.assertEqual(await self.check(self.to), [3])
        restored = SqliteStore(self.to, reactor)
        restored.open()
        self.addCleanup(restored.close)
        (entry,) = await entries(restored)
        self.assertEqual((entry.state, entry.attempts, entry.due, entry.reply), (QUEUED, 4, 77.0, "451 later"))
        self.assertEqual(self.to.stat().st_mode & 0o777, 0o700)
        self.assertEqual((self.to / "queue.sqlite").stat().st_mode & 0o077, 0)

    def test_nothing_is_overwritten(self) -> None:
        """Neither an earlier backup nor a directory of somebody's; half a backup of an earlier try is begun anew."""
        self.to.mkdir()
        (self.to / "precious").write_bytes(b"x")
        self.assertRaises(StoreError, back_up, self.directory, self.to)
        other = self.to.with_name("other")
        other.with_name("other.partial").mkdir()
        (other.with_name("other.partial") / "queue.sqlite").write_bytes(b"half")
        back_up(self.directory, other)
        self.assertEqual(sorted(path.name for path in other.iterdir()), ["queue.sqlite", "spool"])
        self.assertRaises(StoreError, back_up, self.directory, other)

    def test_where_no_queue_is_there_is_no_backup(self) -> None:
        """One line, and nothing is made."""
        error = self.assertRaises(StoreError, back_up, self.directory.with_name("none"), self.to)
        self.assertIn("there is no mail queue in", str(error))
        self.assertFalse(self.to.exists())
