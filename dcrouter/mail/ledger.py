"""What is counted and learnt, over a restart: rows in memory, written to one SQLite file a moment later, many at once.

No message waits for it: a process that is killed forgets at most what it has learnt in the last WRITE_AFTER seconds. A
file that cannot be used is told of and done without: all then begins anew, and mail flows. It is tried again now and
then; once it can be used, what it holds is known again, unless something newer is.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.durable import make_directory

FILE = "ledger.db"
WRITE_AFTER = 1.0
"""Seconds in which changes gather."""
AGAIN_AFTER = 30.0
"""Seconds after which a file that could not be opened, or written, is tried again."""
MAX_ROWS = 100_000
"""Of one table, about 300 bytes each. Beyond, the one that was changed the longest ago is forgotten."""

_TABLES = """
CREATE TABLE IF NOT EXISTS row (
    name TEXT NOT NULL, key BLOB NOT NULL, value REAL NOT NULL, expires REAL NOT NULL, note TEXT NOT NULL,
    PRIMARY KEY (name, key)
) WITHOUT ROWID;
"""

_VERSION = 1


class Row(NamedTuple):
    """`expires`: UTC epoch seconds. `note`: a word or two."""

    value: float
    expires: float
    note: str = ""


class Table:
    """Rows of one kind, by key: at most MAX_ROWS, each step O(1). `now`: UTC epoch seconds."""

    def __init__(self, name: str, changed: Callable[[str, bytes, Row | None], None], now: Callable[[], float]) -> None:
        self.rows: OrderedDict[bytes, Row] = OrderedDict()
        self._name = name
        self._changed = changed
        self._now = now

    def get(self, key: bytes, longest: float = inf) -> Row | None:
        """None where there is none, or it has expired, or would only later than `longest` seconds from now: then the
        clock was ahead when it was put.
        """
        row = self.rows.get(key)
        return row if row is not None and 0.0 < row.expires - self._now() <= longest else None

    def put(self, key: bytes, row: Row) -> None:
        self.rows[key] = row
        self.rows.move_to_end(key)
        self._changed(self._name, key, row)
        for _ in range(2):  # more than one step adds, so what has expired goes sooner or later
            oldest = next(iter(self.rows))
            if self.rows[oldest].expires > self._now() and len(self.rows) <= MAX_ROWS:
                return
            self.forget(oldest)
            if not self.rows:
                return

    def forget(self, key: bytes) -> None:
        if self.rows.pop(key, None) is not None:
            self._changed(self._name, key, None)


class Ledger:
    """All tables. `in_thread` runs a call that waits for the disk. It opens its file with the first table."""

    _log = Logger()

    def __init__(
        self, directory: Path, reactor: Any, now: Callable[[], float], in_thread: Callable[..., Deferred[Any]]
    ) -> None:
        self._path = directory / FILE
        self._reactor = reactor
        self._now = now
        self._in_thread = in_thread
        self._tables: dict[str, Table] = {}
        self._database: sqlite3.Connection | None = None
        self._opened = self._closed = False
        self._problem = ""
        self._changes: OrderedDict[tuple[str, bytes], Row | None] = OrderedDict()
        self._due: IDelayedCall | None = None
        self._writing = False
        self._lock = threading.Lock()  # between a write that is under way and the last one

    @property
    def exists(self) -> bool:
        """Whether anything was ever kept in it."""
        return self._opened or self._path.exists()

    def table(self, name: str) -> Table:
        """The one of that name, with what is still known; the first one blocks while the file is read."""
        found = self._tables.get(name)
        if found is None:
            found = self._tables[name] = Table(name, self._changed, self._now)
            if not self._opened:
                self._opened = True
                self._open()
            if self._database is not None:
                self._load(self._database, name, found)
        return found

    def close(self) -> None:
        """Writes what is not written yet, and closes; blocks."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._changes:
            try:
                self._write(self._changes)
            except (OSError, sqlite3.Error) as error:
                self._failed(str(error))
        with self._lock:
            self._closed = True
            if self._database is not None:
                self._database.close()
                self._database = None

    def _open(self) -> None:
        try:
            self._database = self._connected()
        except (OSError, sqlite3.Error) as error:
            self._failed(str(error))
            self._write_after(AGAIN_AFTER)

    def _failed(self, reason: str) -> None:
        """Told once, not each time that the same is tried again."""
        if reason != self._problem:
            self._problem = reason
            self._log.error(
                "{path} cannot be used, so limits, greylisting, bans and counts are lost with this process: {reason}",
                path=str(self._path),
                reason=reason,
            )

    def _connected(self) -> sqlite3.Connection:
        make_directory(self._path.parent)
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            self._path.chmod(0o600)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")  # nothing here is worth a sync of its own
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"written by another dcrouter (version {version})")
            database.executescript(f"{_TABLES}PRAGMA user_version = {_VERSION};")
            database.execute("DELETE FROM row WHERE expires <= ?", (self._now(),))
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _load(self, database: sqlite3.Connection, name: str, table: Table) -> None:
        try:
            with self._lock:
                found = self._read(database, name)
        except sqlite3.Error as error:
            self._log.error("{path} cannot be read: {reason}", path=str(self._path), reason=str(error))
            return
        table.rows.update(found)

    def _read(self, database: sqlite3.Connection, name: str) -> dict[bytes, Row]:
        """What is still known, the one that expires last at the end."""
        found = database.execute(
            "SELECT key, value, expires, note FROM row WHERE name = ? AND expires > ? ORDER BY expires DESC LIMIT ?",
            (name, self._now(), MAX_ROWS),
        ).fetchall()
        return {bytes(key): Row(value, expires, note) for key, value, expires, note in reversed(found)}

    def _changed(self, name: str, key: bytes, row: Row | None) -> None:
        self._changes[name, key] = row
        if len(self._changes) > MAX_ROWS:
            self._changes.popitem(last=False)
        if self._due is None and not self._writing:
            self._write_after(WRITE_AFTER)

    def _write_after(self, seconds: float) -> None:
        if not self._closed:
            self._due = self._reactor.callLater(seconds, self._begin)

    def _begin(self) -> None:
        self._due = None
        self._writing = True
        changes, self._changes = self._changes, OrderedDict()
        self._in_thread(self._write, changes, tuple(self._tables)).addCallbacks(
            self._written, self._not_written, callbackArgs=(changes,), errbackArgs=(changes,)
        ).addBoth(self._ended)

    def _written(self, found: dict[str, dict[bytes, Row]], changes: Mapping[tuple[str, bytes], Row | None]) -> None:
        """`found`: what there was in a file that can be used at last."""
        if self._problem:
            self._problem = ""
            self._log.info("{path} is used again", path=str(self._path))
        for name, rows in found.items():
            table = self._tables[name]
            for key, row in reversed(rows.items()):
                at = name, key
                if key not in table.rows and at not in changes and at not in self._changes:
                    table.rows[key] = row
                    table.rows.move_to_end(key, last=False)
            while len(table.rows) > MAX_ROWS:
                table.rows.popitem(last=False)

    def _not_written(self, failure: Failure, changes: Mapping[tuple[str, bytes], Row | None]) -> bool:
        self._failed(failure.getErrorMessage())
        for at, row in changes.items():
            if len(self._changes) < MAX_ROWS:
                self._changes.setdefault(at, row)
        return True

    def _ended(self, failed: object) -> None:
        self._writing = False
        if failed or self._changes:
            self._write_after(AGAIN_AFTER if failed else WRITE_AFTER)

    def _write(
        self, changes: Mapping[tuple[str, bytes], Row | None], tables: Iterable[str] = ()
    ) -> dict[str, dict[bytes, Row]]:
        """In a thread, or at the end. Where the file had to be opened first: what `tables` hold in it."""
        puts = [(name, key, *row) for (name, key), row in changes.items() if row is not None]
        gone = [at for at, row in changes.items() if row is None]
        found: dict[str, dict[bytes, Row]] = {}
        with self._lock:
            if self._closed:
                return found
            if self._database is None:
                self._database = self._connected()
                found = {name: self._read(self._database, name) for name in tables}
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany("INSERT OR REPLACE INTO row VALUES (?, ?, ?, ?, ?)", puts)
                self._database.executemany("DELETE FROM row WHERE name = ? AND key = ?", gone)
                self._database.execute("COMMIT")
            except sqlite3.Error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        return found
