"""The store: what it keeps, in which order it is due, and what it refuses."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from dcrouter.errors import StoreError, StoreFull
from dcrouter.mail.envelope import Envelope, Recipient
from dcrouter.mail.message import Message, spool_path
from dcrouter.mail.queue.stores.schema import FAILED, QUEUED, VERSION
from dcrouter.mail.queue.stores.sqlite import START, SqliteStore


def message(number: int, recipients: int = 1, octets: bytes | None = b"Subject: x\r\n\r\n") -> Message:
    return Message(
        id=number,
        envelope=Envelope(
            session="s",
            sender="a@x.test",
            recipients=tuple(Recipient(number=n, address=f"b{n}@y.test", rule="r") for n in range(recipients)),
        ),
        received=1000.0,
        size=len(octets or b""),
        eightbit=False,
        spooled=octets is None,
        octets=octets,
    )


class StoreTests(TestCase):
    def open(self, directory: Path | None = None) -> SqliteStore:
        self.directory = directory or Path(self.mktemp()).absolute()
        store = SqliteStore(self.directory, reactor)
        store.open()
        self.addCleanup(store.close)
        return store

    @inlineCallbacks
    def test_what_is_put_is_there_after_a_restart(self):
        """Messages, recipients and octets; ids never go backwards."""
        store = self.open()
        yield gatherResults([store.put(message(number, 2), 1000.0 + number) for number in range(1, 400)])
        self.assertEqual(store.messages, 399)
        store.close()
        store = SqliteStore(self.directory, reactor)
        self.addCleanup(store.close)
        self.assertEqual(store.open(), 399)
        rows = yield store.listing(10_000)
        self.assertEqual(len(rows), 798)
        octets = yield store.octets(message(7))
        self.assertEqual(octets, b"Subject: x\r\n\r\n")

    @inlineCallbacks
    def test_due_recipients_come_in_pages_and_in_order(self):
        """Behind a cursor, only those that are due, each once."""
        store = self.open()
        for number in range(1, 31):
            yield store.put(message(number, 2), 1000.123 + number // 4)
        seen = []
        cursor = START
        while page := (yield store.due(cursor, 1006.5, 7)):
            seen += [(due.at.message, due.at.number) for due in page]
            cursor = page[-1].at
        self.assertEqual(seen, [(number, n) for number in range(1, 28) for n in (0, 1)][: len(seen)])
        self.assertEqual(len(seen), 2 * 27)
        self.assertEqual((yield store.next_due(1006.5)), 1007.123)
        self.assertEqual((yield store.next_due(2000.0)), None)

    @inlineCallbacks
    def test_a_message_leaves_with_its_last_recipient(self):
        """Those that have it go one by one; the rows of the message go at last, and its spool file."""
        store = self.open()
        path = spool_path(store.spool, 5)
        path.write_bytes(b"Subject: x\r\n\r\n")
        big = message(5, 3, None)
        yield store.put(big, 1000.0)
        yield store.settle(big, [0], [(1, QUEUED, 1, 2000.0, "451 later"), (2, FAILED, 1, 0.0, "550 no")])
        rows = yield store.listing(10)
        self.assertEqual([(row["state"], row["attempts"], row["reply"]) for row in rows],
                         [("queued", 1, "451 later"), ("failed", 1, "550 no")])  # fmt: skip
        yield store.settle(big, [1], [])
        self.assertTrue(path.exists())
        self.assertEqual(store.messages, 1)
        self.assertTrue((yield store.drop(5)))
        self.assertEqual(store.messages, 0)
        self.assertFalse(path.exists())
        self.assertEqual((yield store.listing(10)), [])

    def test_orphans_are_swept_and_others_stay(self):
        """Spool files that no row names were never acknowledged."""
        store = self.open()
        spool_path(store.spool, 1).write_bytes(b"x")
        spool_path(store.spool, 2).write_bytes(b"x")
        (store.spool / "README").write_bytes(b"x")
        kept = store.put(message(2, 1, None), 1000.0)
        store.close()
        store = self.open(self.directory)
        self.assertEqual(sorted(path.name for path in store.spool.iterdir()), ["2.eml", "README"])
        return kept

    def test_a_newer_schema_is_refused(self):
        """StoreError, and the file is left as it is."""
        store = self.open()
        store.close()
        with sqlite3.connect(self.directory / "queue.sqlite") as connection:
            connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.close()
        error = self.assertRaises(StoreError, SqliteStore(self.directory, reactor).open)
        self.assertIn("newer", str(error))

    def test_what_is_no_database_is_named(self):
        """The operator must know which file to bring back, or to put away."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        (directory / "queue.sqlite").write_bytes(b"no database" * 1000)
        error = self.assertRaises(StoreError, SqliteStore(directory, reactor).open)
        self.assertIn(f"the mail queue {directory}/queue.sqlite cannot be opened: ", str(error))
        self.assertIn("file is not a database", str(error))

    def test_durability_is_what_it_says(self):
        """WAL and synchronous=FULL on the connection that writes; nobody else can read the directory."""
        store = self.open()
        connection = store._writer._connection
        self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))
        self.assertEqual(connection.execute("PRAGMA synchronous").fetchone(), (2,))
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)
        self.assertEqual((self.directory / "queue.sqlite").stat().st_mode & 0o077, 0)

    @inlineCallbacks
    def test_a_full_disk_fails_the_put_and_nothing_of_it_stays(self):
        """StoreFull for that group; when there is room again the next one goes."""
        store = self.open()
        yield store.put(message(1), 1000.0)
        connection = store._writer._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        failure = yield self.assertFailure(store.put(message(2, 1, b"x" * 60_000), 1000.0), StoreFull)
        self.assertIn("full", str(failure))
        connection.execute("PRAGMA max_page_count = 100000")
        yield store.put(message(3), 1000.0)
        rows = yield store.listing(10)
        self.assertEqual([row["message"] for row in rows], ["1", "3"])

    @inlineCallbacks
    def test_a_closed_store_says_so(self):
        """Nothing is lost silently."""
        store = self.open()
        store.close()
        self.assertRaises(StoreError, store.put, message(1), 1.0)
        yield self.assertFailure(store.listing(1), StoreError)
