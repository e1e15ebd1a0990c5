"""Rows that outlive the process, and what becomes of them where the disk does not do its part."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.mail import ledger
from dcrouter.mail.ledger import WRITE_AFTER, Ledger, Row
from tests.mail.server.guards.made import START, made_ledger


class LedgerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()) / "mail"
        self.clock = Clock()

    def opened(self) -> Ledger:
        one = made_ledger(self.directory, self.clock)
        self.addCleanup(one.close)
        return one

    def on_disk(self) -> list[tuple[str, bytes, float, float]]:
        with sqlite3.connect(self.directory / ledger.FILE) as database:
            return database.execute("SELECT name, key, value, expires FROM row ORDER BY name, key").fetchall()

    def test_without_tables_there_is_no_file(self) -> None:
        """Who guards nothing pays nothing."""
        self.opened().close()
        self.assertFalse(self.directory.exists())

    def test_rows_outlive_the_ledger(self) -> None:
        """Each table its own, with the newest value; what was forgotten is gone. The file is for its owner only."""
        before = self.opened()
        table, other = before.table("a"), before.table("b")
        for value in (1.0, 2.0):
            table.put(b"k", Row(value, START + 100))
        table.put(b"gone", Row(1.0, START + 100))
        other.put(b"k", Row(3.0, START + 100))
        table.forget(b"gone")
        before.close()
        after = self.opened()
        self.assertEqual(after.table("a").get(b"k"), Row(2.0, START + 100))
        self.assertEqual(after.table("b").get(b"k"), Row(3.0, START + 100))
        self.assertIsNone(after.table("a").get(b"gone"))
        self.assertEqual(stat.S_IMODE((self.directory / ledger.FILE).stat().st_mode), 0o600)

    def test_changes_are_written_together_a_moment_later(self) -> None:
        """So whoever is killed forgets little, and no message waits for a disk."""
        table = self.opened().table("a")
        table.put(b"1", Row(1.0, START + 100))
        table.put(b"2", Row(1.0, START + 100))
        self.assertEqual(self.on_disk(), [])
        self.clock.advance(WRITE_AFTER)
        self.assertEqual([key for _, key, _, _ in self.on_disk()], [b"1", b"2"])
        table.put(b"3", Row(1.0, START + 100))
        self.clock.advance(WRITE_AFTER)
        self.assertEqual(len(self.on_disk()), 3)

    def test_what_has_expired_is_gone(self) -> None:
        """From the table at once, from memory with what comes later, from the disk with the next start."""
        table = self.opened().table("a")
        table.put(b"1", Row(1.0, START + 100))
        self.clock.advance(100)
        self.assertIsNone(table.get(b"1"))
        table.put(b"2", Row(1.0, START + 1000))
        self.assertEqual(list(table.rows), [b"2"])
        self.clock.advance(1000)
        self.assertEqual([key for _, key, _, _ in self.on_disk()], [b"2"])
        self.opened().table("a")
        self.assertEqual(self.on_disk(), [])

    def test_a_table_is_bounded(self) -> None:
        """In memory and on the disk: what was changed the longest ago goes."""
        self.patch(ledger, "MAX_ROWS", 3)
        table = self.opened().table("a")
        for number in range(10):
            table.put(b"%d" % number, Row(1.0, START + 100))
            self.clock.advance(WRITE_AFTER)
        self.assertEqual(list(table.rows), [b"7", b"8", b"9"])
        self.assertEqual([key for _, key, _, _ in self.on_disk()], [b"7", b"8", b"9"])

    def test_a_file_that_is_broken_is_done_without(self) -> None:
        """The log has an error; guards work, and forget with the process."""
        self.directory.mkdir(parents=True)
        (self.directory / ledger.FILE).write_bytes(b"no database" * 1000)
        table = self.opened().table("a")
        table.put(b"k", Row(1.0, START + 100))
        self.clock.advance(WRITE_AFTER)
        self.assertEqual(table.get(b"k"), Row(1.0, START + 100))
        self.assertEqual((self.directory / ledger.FILE).read_bytes(), b"no database" * 1000)

    def test_a_file_that_can_be_used_again_is(self) -> None:
        """A disk that was full when it began: what the file holds is known again, unless something newer is, and what
        came meanwhile is written."""
        before = self.opened().table("a")
        before.put(b"old", Row(1.0, START + 1000))
        before.put(b"newer", Row(1.0, START + 1000))
        before.put(b"gone", Row(1.0, START + 1000))
        self.clock.advance(WRITE_AFTER)
        path = self.directory / ledger.FILE
        path.rename(self.directory / "away")
        path.mkdir()
        table = self.opened().table("a")
        self.assertEqual(list(table.rows), [])
        table.put(b"newer", Row(2.0, START + 1000))
        table.put(b"gone", Row(2.0, START + 1000))
        table.forget(b"gone")
        self.clock.advance(ledger.AGAIN_AFTER)
        path.rmdir()
        (self.directory / "away").rename(path)
        self.clock.advance(ledger.AGAIN_AFTER)
        self.assertEqual(table.rows, {b"old": Row(1.0, START + 1000), b"newer": Row(2.0, START + 1000)})
        self.assertEqual([(key, value) for _, key, value, _ in self.on_disk()], [(b"newer", 2.0), (b"old", 1.0)])
        table.put(b"later", Row(1.0, START + 1000))
        self.clock.advance(WRITE_AFTER)
        self.assertEqual(len(self.on_disk()), 3)

    def test_a_write_that_fails_is_made_again(self) -> None:
        """Later, with all that has come meanwhile."""
        table = self.opened().table("a")
        with sqlite3.connect(self.directory / ledger.FILE, isolation_level=None) as other:
            other.execute("ALTER TABLE row RENAME TO away")
            table.put(b"1", Row(1.0, START + 100))
            self.clock.advance(WRITE_AFTER)
            other.execute("ALTER TABLE away RENAME TO row")
        table.put(b"2", Row(1.0, START + 100))
        self.clock.advance(ledger.AGAIN_AFTER)
        self.assertEqual([key for _, key, _, _ in self.on_disk()], [b"1", b"2"])
