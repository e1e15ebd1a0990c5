"""The store on disk, as far as it is more than the contract: durable, versioned, and honest about a full disk."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from dcrouter.errors import StoreError, StoreFull
from dcrouter.mail.envelope import PLAIN, Recipient, Terms
from dcrouter.mail.message import spool_path
from dcrouter.mail.queue.store import FAILED, HELD, QUEUED, START
from dcrouter.mail.queue.stores.schema import VERSION
from dcrouter.mail.queue.stores.sqlite import SqliteStore
from tests.mail.queue.made import TEXT, entries, message
from tests.support.facts import until

VERSION_1 = """
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    sender TEXT NOT NULL,
    received REAL NOT NULL,
    size INTEGER NOT NULL,
    eightbit INTEGER NOT NULL
) STRICT;
CREATE TABLE body (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES message (id),
    octets BLOB
) STRICT;
CREATE TABLE recipient (
    message INTEGER NOT NULL REFERENCES message (id),
    number INTEGER NOT NULL,
    body INTEGER NOT NULL REFERENCES body (id),
    address TEXT NOT NULL,
    rule TEXT NOT NULL,
    state INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due REAL NOT NULL,
    reply TEXT NOT NULL,
    PRIMARY KEY (message, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient (state, due, message, number);
PRAGMA user_version = 1;
"""
"""What the first version of dcrouter wrote."""

VERSION_2 = (
    VERSION_1.replace("eightbit INTEGER NOT NULL\n", "eightbit INTEGER NOT NULL,\n origin INTEGER NOT NULL DEFAULT 0\n")
    .replace("    PRIMARY KEY (message", "    told INTEGER NOT NULL DEFAULT 0,\n    PRIMARY KEY (message")
    .replace("user_version = 1", "user_version = 2")
)
"""And what it wrote before a message carried more than its addresses."""


class SqliteTests(TestCase):
    def open(self, directory: Path | None = None) -> SqliteStore:
        self.directory = directory or Path(self.mktemp()).absolute()
        store = SqliteStore(self.directory, reactor)
        store.open()
        self.addCleanup(store.close)
        return store

    async def test_what_is_put_is_there_after_a_restart(self) -> None:
        """Messages, recipients and octets; ids never go backwards."""
        store = self.open()
        await gatherResults([store.put(message(n, "b@y.test", "c@y.test"), 1000.0 + n) for n in range(1, 400)])
        store.close()
        store = SqliteStore(self.directory, reactor)
        self.addCleanup(store.close)
        self.assertEqual(store.open(), 399)
        self.assertEqual(store.messages, 399)
        self.assertEqual(len(await entries(store)), 798)
        self.assertEqual(await store.octets(message(7)), TEXT)

    async def test_a_file_of_version_1_is_brought_up_to_date(self) -> None:
        """All that it kept is there; its senders were strangers, its failed and held mail has been so since now, its
        columns are those of a new file, and a second start changes nothing."""
        directory = Path(self.mktemp()).absolute()
        (directory / "spool").mkdir(parents=True)
        spool_path(directory / "spool", 2).write_bytes(TEXT)
        old = sqlite3.connect(directory / "queue.sqlite")
        old.executescript("PRAGMA journal_mode = WAL;" + VERSION_1)
        old.execute("INSERT INTO message VALUES (1, 's', 'a@x.test', 10.0, 19, 0)")
        old.execute("INSERT INTO message VALUES (2, 's', '', 20.0, 100000, 1)")
        old.execute("INSERT INTO body VALUES (1, 1, ?), (2, 2, NULL)", (TEXT,))
        for row in (
            (1, 0, 1, "b@y.test", "r", QUEUED, 3, 500.0, "451 later"),
            (1, 1, 1, "c@y.test", "r", FAILED, 1, 0.0, "550 no"),
            (2, 0, 2, "d@y.test", "gone", HELD, 0, 0.0, "no rule named gone"),
        ):
            old.execute("INSERT INTO recipient VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        old.commit()
        old.close()
        for _ in range(2):
            store = self.open(directory)
            await store.sweep()
            found = await entries(store)
            self.assertEqual(
                [(entry.key, entry.state, entry.attempts, entry.reply) for entry in found],
                [
                    ((1, 0), QUEUED, 3, "451 later"),
                    ((1, 1), FAILED, 1, "550 no"),
                    ((2, 0), HELD, 0, "no rule named gone"),
                ],
            )
            self.assertEqual(found[0].due, 500.0)
            self.assertGreater(min(found[1].due, found[2].due), 1.7e9)
            (due,) = await store.due(START, 600.0, 10)
            self.assertFalse(due.message.envelope.may_relay)
            self.assertIsNone(due.message.notice)
            self.assertFalse(due.message.envelope.recipients[0].told)
            self.assertEqual(await store.head(message(2, octets=None), 7), b"Subject")
            columns = self.columns(store)
            store.close()
        self.assertEqual(columns, self.columns(self.open()))

    async def test_a_file_of_version_2_is_brought_up_to_date(self) -> None:
        """Nobody had asked for anything, and nobody has; its columns and indexes are those of a new file."""
        directory = Path(self.mktemp()).absolute()
        (directory / "spool").mkdir(parents=True)
        old = sqlite3.connect(directory / "queue.sqlite")
        old.executescript("PRAGMA journal_mode = WAL;" + VERSION_2)
        old.execute("INSERT INTO message VALUES (1, 's', 'a@x.test', 10.0, 19, 1, 1)")
        old.execute("INSERT INTO body VALUES (1, 1, ?)", (TEXT,))
        old.execute("INSERT INTO recipient VALUES (1, 0, 1, 'b@y.test', 'r', 0, 3, 500.0, '451 later', 1)")
        old.commit()
        old.close()
        store = self.open(directory)
        (due,) = await store.due(START, 600.0, 10)
        kept = Recipient(number=0, address="b@y.test", rule="r", attempts=3, told=True)
        self.assertEqual(due.message.envelope.recipients, (kept,))
        self.assertEqual(due.message.envelope.terms, PLAIN)
        self.assertEqual((due.message.eightbit, due.message.binary), (True, False))
        columns = self.columns(store)
        store.close()
        self.assertEqual(columns, self.columns(self.open()))

    def connection(self, store: SqliteStore) -> sqlite3.Connection:
        """The one that writes."""
        assert store._writer is not None
        return store._writer._connection

    def columns(self, store: SqliteStore) -> list[list[tuple[object, ...]]]:
        connection = self.connection(store)
        self.assertEqual(connection.execute("PRAGMA user_version").fetchone(), (VERSION,))
        return [
            *(connection.execute(f"PRAGMA table_info({name})").fetchall() for name in ("message", "body", "recipient")),
            connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall(),
        ]

    async def test_what_a_clock_that_was_ahead_has_left_is_due_within_a_day(self) -> None:
        """At the next start: of an age that it can have, too. What its sender has put off so far stays."""
        store = self.open()
        now = float(int(time.time()))
        ahead = now + 3650 * 86_400.0
        for number, due in ((1, now + 60.0), (int(ahead * 1e6), ahead + 300.0), (int(ahead * 1e6) + 1, ahead)):
            one = evolve(message(number), received=ahead if number > 1 else now)
            if due == ahead:
                one = evolve(one, envelope=evolve(one.envelope, terms=Terms(release=ahead)))
            await store.put(one, due)
        store.close()
        again = SqliteStore(self.directory, reactor)
        again.open()
        self.addCleanup(again.close)
        found = await entries(again)
        self.assertEqual((found[0].due, found[0].received), (now + 60.0, now))
        self.assertTrue(0.0 <= found[1].due - now <= 86_400.0 + 60.0, found[1].due - now)
        self.assertEqual(found[2].due, ahead)
        self.assertTrue(all(entry.received <= time.time() for entry in found))

    def test_a_newer_schema_is_refused(self) -> None:
        """StoreError, and the file is left as it is."""
        store = self.open()
        store.close()
        with sqlite3.connect(self.directory / "queue.sqlite") as connection:
            connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.close()
        error = self.assertRaises(StoreError, SqliteStore(self.directory, reactor).open)
        self.assertIn("newer", str(error))

    def test_what_is_no_database_is_named(self) -> None:
        """The operator must know which file to bring back, or to put away."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        (directory / "queue.sqlite").write_bytes(b"no database" * 1000)
        error = self.assertRaises(StoreError, SqliteStore(directory, reactor).open)
        self.assertIn(f"the mail queue {directory}/queue.sqlite cannot be opened: ", str(error))
        self.assertIn("file is not a database", str(error))

    def test_durability_is_what_it_says(self) -> None:
        """WAL on the connection that writes, and commits that sync at first; nobody else can read the directory."""
        store = self.open()
        connection = self.connection(store)
        self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))
        self.assertEqual(connection.execute("PRAGMA synchronous").fetchone(), (2,))
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)
        self.assertEqual((self.directory / "queue.sqlite").stat().st_mode & 0o077, 0)

    async def test_what_was_delivered_is_synced_a_little_later(self) -> None:
        """By a sync of the WAL where no put follows, and at the end; with a file to remove, by the commit itself. Each
        put has its own."""
        store = self.open()
        synced: list[str] = []

        def sync(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            really(descriptor)

        really = os.fdatasync
        self.patch(os, "fdatasync", sync)
        await store.put(message(1), 1000.0)
        self.assertEqual(len(synced), 1)
        await store.finish(message(1))
        await until(lambda: len(synced) == 2)
        await store.put(message(2), 1000.0)
        await store.finish(message(2))
        self.assertEqual(len(synced), 3)
        store.close()
        self.assertEqual(synced, [str(self.directory / "queue.sqlite-wal")] * 4)
        store = self.open(self.directory)
        await store.put(message(3, octets=None), 1000.0)
        await store.finish(message(3, octets=None))
        store.close()
        self.assertEqual(len(synced), 5)

    async def test_a_put_that_could_not_be_synced_is_taken_out_again(self) -> None:
        """It has been written before its sync: the client keeps it, so nobody else may get it."""
        store = self.open()
        await store.put(message(1), 1000.0)
        left = [OSError(5, "Input/output error")]
        really = os.fdatasync

        def sync(descriptor: int) -> None:
            if left:
                raise left.pop()
            really(descriptor)

        self.patch(os, "fdatasync", sync)
        with self.assertRaises(StoreError) as caught:
            await store.put(message(2), 1000.0)
        self.assertIn("Input/output error", str(caught.exception))
        await store.put(message(3), 1000.0)
        self.assertEqual([entry.message for entry in await entries(store)], [1, 3])
        self.assertEqual(store.messages, 2)
        left.append(OSError(5, "Input/output error"))
        failing = store.put(message(4), 1000.0)
        store.close()
        await self.assertFailure(failing, StoreError)
        store = self.open(self.directory)
        self.assertEqual([entry.message for entry in await entries(store)], [1, 3])

    async def test_a_full_disk_fails_the_put_and_nothing_of_it_stays(self) -> None:
        """StoreFull for that group; when there is room again the next one goes."""
        store = self.open()
        await store.put(message(1), 1000.0)
        connection = self.connection(store)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with self.assertRaises(StoreFull) as caught:
            await store.put(message(2, octets=b"x" * 60_000), 1000.0)
        self.assertIn("full", str(caught.exception))
        connection.execute("PRAGMA max_page_count = 100000")
        await store.put(message(3), 1000.0)
        self.assertEqual([entry.message for entry in await entries(store)], [1, 3])

    async def test_a_failure_and_its_notification_are_one_transaction(self) -> None:
        """What cannot be written whole changes nothing: the recipient is still due, and there is no notification."""
        store = self.open()
        failed = message(1)
        await store.put(failed, 1000.0)
        connection = self.connection(store)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        notice = message(2, sender="", octets=b"x" * 60_000, notice="sender")
        await self.assertFailure(store.settle(failed, [0], [], [notice], 5.0), StoreFull)
        self.assertEqual([(entry.message, entry.state) for entry in await entries(store)], [(1, QUEUED)])
        self.assertEqual(store.messages, 1)
        connection.execute("PRAGMA max_page_count = 100000")
        await store.settle(failed, [0], [], [notice], 5.0)
        self.assertEqual([(entry.message, entry.state) for entry in await entries(store)], [(2, QUEUED)])
        self.assertEqual(store.messages, 1)
