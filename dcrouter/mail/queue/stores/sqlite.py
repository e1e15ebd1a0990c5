"""The mail queue on disk: SQLite for everything small, spool files for large bodies, both under one directory.

Contract: `put` and `settle` fire when what they say is durable (WAL, synchronous=FULL), or fail with StoreError and
have changed nothing. Reading happens on a thread and a connection of its own, in pages, one long statement each.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from dcrouter.errors import StoreError
from dcrouter.mail.envelope import Envelope, Recipient
from dcrouter.mail.message import Message, spool_path
from dcrouter.mail.queue.stores.schema import QUEUED, STATES, prepare
from dcrouter.mail.queue.stores.writer import Settles, Writer, as_store_error

CHECKPOINT_PAGES = 8192
"""Pages in the WAL before it is written back: most rows are gone again by then, and never reach the table."""


class Cursor(NamedTuple):
    """Where a page of due recipients ended; the next one begins behind it."""

    due: float
    message: int
    number: int


START = Cursor(0.0, 0, -1)


class Due(NamedTuple):
    """A recipient that is due. `message` has no octets in memory, and this recipient only."""

    at: Cursor
    message: Message


class SqliteStore:
    """`directory`: made if absent, 0700. The spool files of messages being received are in `spool`."""

    def __init__(self, directory: Path, reactor: Any) -> None:
        self.spool = directory / "spool"
        self._directory = directory
        self._path = directory / "queue.sqlite"
        self._reactor = reactor
        self._reader: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._reading = ThreadPool(1, 1, "mail-read")

    @property
    def messages(self) -> int:
        """How many there are."""
        return self._writer.messages if self._writer is not None else 0

    def open(self) -> int:
        """The highest id so far. Blocks; once, before any mail. Raises StoreError."""
        try:
            self.spool.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._directory.chmod(0o700)
            writing = self._connect()
            writing.execute("PRAGMA secure_delete = OFF")
            writing.execute("PRAGMA journal_mode = WAL")
            writing.execute("PRAGMA synchronous = FULL")
            writing.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            prepare(writing)
            last, messages = writing.execute("SELECT coalesce(max(id), 0), count(*) FROM message").fetchone()
            self._sweep(writing)
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            cause = as_store_error(error)
            raise type(cause)(f"the mail queue {self._path} cannot be opened: {cause}") from error
        except OSError as error:
            raise StoreError(f"the mail queue in {self._directory}: {error}") from error
        self._writer = Writer(writing, self._reactor, messages)
        self._reading.start()
        return int(last)

    def close(self) -> None:
        """Writes what has gathered and closes; blocks for as long as that takes."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._reading.stop()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def put(self, message: Message, now: float) -> Deferred[None]:
        """Keeps a new message, all its recipients due at `now`. Its spool file, if any, is durable already."""
        envelope = message.envelope
        rows: list[Any] = []
        for one in envelope.recipients:
            rows += (message.id, one.number, message.id, one.address, one.rule, QUEUED, one.attempts, now, "")
        return self._open_writer().put(
            (message.id, envelope.session, envelope.sender, message.received, message.size, int(message.eightbit)),
            (message.id, message.id, None if message.spooled else message.octets),
            rows,
            0 if message.spooled else message.size,
        )

    def finish(self, message: Message) -> Deferred[None]:
        """Everybody has it: the message leaves."""

        def add(group: Settles) -> None:
            group.done.append(message.id)
            if message.spooled:
                group.spooled.append((message.id, spool_path(self.spool, message.id)))

        return self._open_writer().settle(add)

    def settle(
        self, message: Message, gone: Iterable[int], changed: Iterable[tuple[int, int, int, float, str]]
    ) -> Deferred[None]:
        """Recipients by number: `gone` have it, `changed` are (number, state, attempts, due, reply) from now on."""

        def add(group: Settles) -> None:
            group.gone += [[message.id, number] for number in gone]
            group.changed += [[message.id, *change] for change in changed]
            if message.spooled:
                group.spooled.append((message.id, spool_path(self.spool, message.id)))

        return self._open_writer().settle(add)

    def due(self, behind: Cursor, now: float, limit: int) -> Deferred[list[Due]]:
        """At most `limit` recipients that are due at `now`, in order, behind a cursor."""
        return self._read(lambda reader: self._read_due(reader, behind, now, limit))

    def next_due(self, after: float) -> Deferred[float | None]:
        """When the first recipient that is due later than `after` is due, None: there is none."""

        def read(reader: sqlite3.Connection) -> float | None:
            query = "SELECT due FROM recipient WHERE state = ? AND due > ? ORDER BY due LIMIT 1"
            row = reader.execute(query, (QUEUED, after)).fetchone()
            return row[0] if row else None

        return self._read(read)

    def octets(self, message: Message) -> Deferred[bytes]:
        """The content of a message that is not spooled; StoreError where it is gone."""

        def read(reader: sqlite3.Connection) -> bytes:
            row = reader.execute("SELECT octets FROM body WHERE id = ?", (message.id,)).fetchone()
            if row is None or row[0] is None:
                raise StoreError(f"message {message.name} has no content in the queue")
            return bytes(row[0])

        return self._read(read)

    def release(self, rules: Iterable[str], now: float) -> Deferred[None]:
        """What was held for the lack of these rules is due at `now`."""
        names = json.dumps(sorted(rules))
        return self._open_writer().settle(lambda group: group.released.append((names, now)))

    def listing(self, limit: int) -> Deferred[list[dict[str, Any]]]:
        """At most `limit` recipients with their messages, oldest first, for the operator."""
        return self._read(lambda reader: _listing(reader, limit))

    def drop(self, message: int) -> Deferred[bool]:
        """Removes a message with all its recipients; whether there was one."""
        result: Deferred[bool] = self._read(
            lambda reader: reader.execute("SELECT 1 FROM message WHERE id = ?", (message,)).fetchone() is not None
        )

        def remove(found: bool) -> Deferred[bool] | bool:
            if not found:
                return False

            def add(group: Settles) -> None:
                group.done.append(message)
                group.spooled.append((message, spool_path(self.spool, message)))

            return self._open_writer().settle(add).addCallback(lambda _: True)

        return result.addCallback(remove)

    # ------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        old = os.umask(0o077)
        try:
            return sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=10.0, cached_statements=64
            )
        finally:
            os.umask(old)

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise StoreError("the mail queue is closed")
        return self._writer

    def _read(self, query: Any) -> Deferred[Any]:
        reader = self._reader
        if reader is None:
            return fail(StoreError("the mail queue is closed"))

        def run() -> Any:
            try:
                return query(reader)
            except sqlite3.Error as error:
                raise as_store_error(error) from error

        return deferToThreadPool(self._reactor, self._reading, run)

    def _sweep(self, connection: sqlite3.Connection) -> None:
        """Removes spool files that no row names: their messages were never acknowledged, or are gone."""
        for path in self.spool.iterdir():
            try:
                message = int(path.stem, 16)
            except ValueError:
                continue
            if not connection.execute("SELECT 1 FROM body WHERE id = ?", (message,)).fetchone():
                path.unlink(missing_ok=True)

    def _read_due(self, reader: sqlite3.Connection, behind: Cursor, now: float, limit: int) -> list[Due]:
        (text,) = reader.execute(_DUE, (QUEUED, *behind, now, limit)).fetchone()
        return [_as_due(*row) for row in json.loads(text)]


def _as_due(
    due: float,
    message: int,
    number: int,
    address: str,
    rule: str,
    attempts: int,
    session: str,
    sender: str,
    received: float,
    size: int,
    eightbit: int,
    spooled: int,
) -> Due:
    recipient = Recipient(number=number, address=address, rule=rule, attempts=attempts)
    return Due(
        Cursor(due, message, number),
        Message(
            id=message,
            envelope=Envelope(session=session, sender=sender, recipients=(recipient,)),
            received=received,
            size=size,
            eightbit=bool(eightbit),
            spooled=bool(spooled),
        ),
    )


_DUE = """
SELECT json_group_array(json_array(
    due, id, number, address, rule, attempts, session, sender, received, size, eightbit, spooled))
FROM (
    SELECT r.due, m.id, r.number, r.address, r.rule, r.attempts, m.session, m.sender, m.received, m.size, m.eightbit,
        (SELECT octets IS NULL FROM body WHERE body.id = r.body) AS spooled
    FROM recipient AS r JOIN message AS m ON m.id = r.message
    WHERE r.state = ? AND (r.due, r.message, r.number) > (?, ?, ?) AND r.due <= ?
    ORDER BY r.due, r.message, r.number LIMIT ?
)"""

_LIST = """
SELECT m.id, m.session, m.sender, m.received, m.size, r.address, r.rule, r.state, r.attempts, r.due, r.reply
FROM message AS m JOIN recipient AS r ON r.message = m.id ORDER BY m.id, r.number LIMIT ?"""


def _listing(reader: sqlite3.Connection, limit: int) -> list[dict[str, Any]]:
    return [
        {
            "message": f"{id:x}",
            "session": session,
            "sender": sender,
            "received": received,
            "size": size,
            "recipient": address,
            "rule": rule,
            "state": STATES[state],
            "attempts": attempts,
            "due": due if state == QUEUED else None,
            "reply": reply,
        }
        for id, session, sender, received, size, address, rule, state, attempts, due, reply in reader.execute(
            _LIST, (limit,)
        )
    ]
