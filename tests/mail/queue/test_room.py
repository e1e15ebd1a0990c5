"""A queue that cannot be opened: for now, where its disk is full, or for good."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import StoreError, StoreFull
from dcrouter.mail.queue import room
from dcrouter.mail.queue.stores.schema import FILE
from dcrouter.mail.queue.stores.sqlite import SqliteStore


class UnopenedTests(SynchronousTestCase):
    def problem(self) -> StoreError:
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / FILE).write_bytes(b"no database" * 1000)
        store = SqliteStore(directory, reactor)
        error: StoreError = self.assertRaises(StoreError, store.open)
        store.close()
        return error

    def test_a_full_disk_is_a_trouble_for_now(self) -> None:
        """Where the disk has less room than SQLite may need, whatever it then said; else it is for the operator."""
        self.assertNotIsInstance(self.problem(), StoreFull)
        self.patch(room, "TO_OPEN", 1 << 62)
        error = self.problem()
        self.assertIsInstance(error, StoreFull)
        self.assertIn("no room on its disk", str(error))
