"""The mail queue on disk: SQLite for everything small, spool files for large bodies, both under one directory.

`put` and `settle` fire when what they say is durable: in the WAL, synced by `Syncer` or by its own commit. What the
queue needs is read on a thread and a connection of its own, in pages; what an operator asks, which may take seconds, on
another one.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from dcrouter.durable import make_directory, sync_directory
from dcrouter.errors import StoreError
from dcrouter.mail.message import Message, spool_path
from dcrouter.mail.queue.room import unopened
from dcrouter.mail.queue.store import Ages, Change, Cursor, Due, Entry, Key, Page, Selection
from dcrouter.mail.queue.stores import queries, spool
from dcrouter.mail.queue.stores.groups import Settles
from dcrouter.mail.queue.stores.orders import Advance, Order, Release, Reroute, Shift, fold
from dcrouter.mail.queue.stores.schema import ARRIVAL, FILE, SPOOL, origin_of, prepare, recipient_row, terms_text
from dcrouter.mail.queue.stores.writer import Writer, as_store_error

PAGE = 16384
"""Octets of a page, in a file that is made now: a body of 100 KB as pages of 4096 costs a quarter more of the
processor, and one of 4 KB the same."""

CHECKPOINT = 32 * 1024 * 1024
"""Octets in the WAL before it is written back: most rows are gone again by then, and never reach the table."""

LOOK_WITHIN = 40.0
"""Seconds for a question of the operator; the parent waits a little longer."""

_STEPS = 20_000_000
"""Of SQLite's machine between two looks at the clock: a fraction of a second, so that it seldom wants the GIL."""

SWEEP = 500
"""Spool files that are looked up at once."""

T = TypeVar("T")
Query = Callable[[sqlite3.Connection], T]


class SqliteStore:
    """`directory`: made if absent, 0700. It implements `Store`."""

    _log = Logger()

    def __init__(self, directory: Path, reactor: Any) -> None:
        self.spool = directory / SPOOL
        self._directory = directory
        self._path = directory / FILE
        self._reactor = reactor
        self._reader: sqlite3.Connection | None = None
        self._looker: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._reading = ThreadPool(1, 1, "mail-read")
        self._looking = ThreadPool(0, 1, "mail-look")
        self._left: list[int] = []

    @property
    def messages(self) -> int:
        return self._writer.messages if self._writer is not None else 0

    def open(self) -> int:
        try:
            make_directory(self.spool)
            self._directory.chmod(0o700)
            writing = self._connect()
            writing.execute(f"PRAGMA page_size = {PAGE}")  # before WAL, and without effect where there are pages
            writing.execute("PRAGMA secure_delete = OFF")
            writing.execute("PRAGMA journal_mode = WAL")
            writing.execute("PRAGMA synchronous = FULL")
            (page,) = writing.execute("PRAGMA page_size").fetchone()
            writing.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT // page}")
            prepare(writing)
            fold(writing, time())
            writing.execute("PRAGMA temp_store = MEMORY")
            writing.executescript(ARRIVAL)
            last, messages = writing.execute("SELECT coalesce(max(id), 0), count(*) FROM message").fetchone()
            # A sync may have failed just before an earlier run ended: nothing is written behind what it was for.
            writing.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            sync_directory(self._directory)
            self._left = spool.listed(self.spool)
            self._reader = self._connect()
            self._looker = self._connect()
            for reader in (self._reader, self._looker):
                reader.execute("PRAGMA query_only = ON")
            self._writer = Writer(writing, self._reactor, messages)
        except sqlite3.Error as error:
            problem = f"the mail queue {self._path} cannot be opened: {as_store_error(error)}"
            raise unopened(self._directory, problem) from error
        except OSError as error:
            raise unopened(self._directory, f"the mail queue in {self._directory}: {error}") from error
        self._reading.start()
        self._looking.start()
        # A file that no row names may have a higher id than any row: a new message must not meet it.
        return max(int(last), *self._left) if self._left else int(last)

    async def _swept(self) -> int:
        swept = 0
        while self._left:
            listed, self._left = self._left[:SWEEP], self._left[SWEEP:]
            swept += await self._look(partial(self._sweep, listed=listed))
        return swept

    def sweep(self) -> Deferred[int]:
        return Deferred.fromCoroutine(self._swept())

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for attribute, pool in (("_reader", self._reading), ("_looker", self._looking)):
            connection: sqlite3.Connection | None = getattr(self, attribute)
            if connection is not None:
                setattr(self, attribute, None)
                connection.interrupt()
                if pool.started:
                    pool.stop()
                connection.close()

    # ------------------------------------------------------------------ writing

    def put(self, message: Message, now: float) -> Deferred[None]:
        return self._open_writer().put(_arrival(message, now), 0 if message.spooled else message.size)

    def finish(self, message: Message) -> Deferred[None]:
        def add(group: Settles) -> None:
            group.done.append(message.id)
            if message.spooled:
                group.spooled.append((message.id, spool_path(self.spool, message.id)))

        return self._open_writer().settle(add)

    def settle(
        self,
        message: Message,
        gone: Iterable[int],
        changed: Iterable[Change],
        notices: Sequence[Message] = (),
        now: float = 0.0,
    ) -> Deferred[None]:
        def add(group: Settles) -> None:
            group.gone += [[message.id, number] for number in gone]
            group.changed += [[message.id, *change] for change in changed]
            if message.spooled:
                group.spooled.append((message.id, spool_path(self.spool, message.id)))
            for notice in notices:
                group.notices += _arrival(notice, now)

        return self._open_writer().settle(add)

    def release(self, rules: Iterable[str], now: float) -> Deferred[None]:
        names = json.dumps(sorted(rules))
        return self._open_writer().settle(lambda group: group.order(Release(names, now)))

    def change(
        self, keys: Sequence[Key], states: Sequence[int], state: int, due: float, *, advance: bool = False
    ) -> Deferred[None]:
        order = Order(json.dumps(keys), json.dumps(states), due if advance else -1.0, state, due)
        return self._open_writer().settle(lambda group: group.order(order))

    def advance(self, beginning: str, now: float, pace: int) -> Deferred[None]:
        return self._open_writer().settle(lambda group: group.order(Advance(beginning, now, pace)))

    def shift(self, seconds: float) -> Deferred[None]:
        return self._open_writer().settle(lambda group: group.order(Shift(seconds)))

    def reroute(self, keys: Sequence[Key], rule: str) -> Deferred[None]:
        order = Reroute(json.dumps(keys), rule)
        return self._open_writer().settle(lambda group: group.order(order))

    def remove(self, keys: Sequence[Key]) -> Deferred[None]:
        def add(group: Settles) -> None:
            group.gone += [list(key) for key in keys]
            group.spooled += [(message, spool_path(self.spool, message)) for message in {key[0] for key in keys}]

        return self._open_writer().settle(add)

    # ------------------------------------------------------------------ reading

    def due(self, behind: Cursor, now: float, limit: int) -> Deferred[list[Due]]:
        return self._read(lambda reader: queries.read_due(reader, behind, now, limit))

    def next_due(self, after: float) -> Deferred[float | None]:
        return self._read(lambda reader: queries.read_next_due(reader, after))

    def octets(self, message: Message) -> Deferred[bytes]:
        return self._read(lambda reader: _octets(reader, message, -1))

    def head(self, message: Message, size: int) -> Deferred[bytes]:
        def read(reader: sqlite3.Connection) -> bytes:
            if not message.spooled:
                return _octets(reader, message, size)
            try:
                return spool.beginning(self.spool, message.id, size)
            except OSError as error:
                raise StoreError(f"message {message.name}: {error}") from error

        return self._read(read)

    def failed(self, before: float, limit: int) -> Deferred[list[Entry]]:
        return self._read(lambda reader: queries.read_failed(reader, before, limit))

    def first_failed(self) -> Deferred[float | None]:
        return self._read(queries.read_first_failed)

    def replies(self, beginnings: Sequence[str], now: float, limit: int) -> Deferred[list[str]]:
        return self._look(lambda looker: queries.read_replies(looker, beginnings, now, limit))

    def pick(self, selection: Selection, behind: Key, limit: int, now: float) -> Deferred[Page]:
        return self._look(lambda looker: queries.read_page(looker, selection, behind, limit, now))

    def counts(self, now: float) -> Deferred[dict[str, Any]]:
        return self._look(lambda looker: queries.read_counts(looker, now))

    def stats(self, now: float, top: int) -> Deferred[dict[str, Any]]:
        return self._look(lambda looker: queries.read_stats(looker, now, top))

    def ages(self, now: float, top: int) -> Deferred[Ages]:
        return self._look(lambda looker: queries.read_ages(looker, now, top))

    # ------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        old = os.umask(0o077)
        try:
            return sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=10.0, cached_statements=128
            )
        finally:
            os.umask(old)

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise StoreError("the mail queue is closed")
        return self._writer

    def _read(self, query: Query[T]) -> Deferred[T]:
        return self._ask(self._reader, self._reading, query)

    def _look(self, query: Query[T]) -> Deferred[T]:
        """As `_read`, for what may take seconds; it is broken off after LOOK_WITHIN."""

        def run(connection: sqlite3.Connection) -> T:
            until = monotonic() + LOOK_WITHIN
            connection.set_progress_handler(lambda: monotonic() > until, _STEPS)
            try:
                return query(connection)
            finally:
                connection.set_progress_handler(None, 0)

        return self._ask(self._looker, self._looking, run)

    def _ask(self, connection: sqlite3.Connection | None, pool: ThreadPool, query: Query[T]) -> Deferred[T]:
        if connection is None:
            return fail(StoreError("the mail queue is closed"))

        def run() -> T:
            try:
                return query(connection)
            except sqlite3.Error as error:
                raise as_store_error(error) from error

        return deferToThreadPool(self._reactor, pool, run)

    def _sweep(self, connection: sqlite3.Connection, listed: list[int]) -> int:
        """Files that no row names: their messages were never acknowledged, or are gone."""
        (text,) = connection.execute(_ORPHANS, (json.dumps(listed),)).fetchone()
        orphans = json.loads(text)
        try:
            spool.remove(self.spool, orphans)
        except OSError as error:
            raise StoreError(f"{self.spool}: {error}") from error
        return len(orphans)


_ORPHANS = """
SELECT json_group_array(value) FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM body WHERE body.id = value)"""


def _arrival(message: Message, now: float) -> tuple[Any, ...]:
    envelope = message.envelope
    return (
        message.id,
        envelope.session,
        envelope.sender,
        message.received,
        message.size,
        2 if message.binary else int(message.eightbit),
        origin_of(message),
        terms_text(envelope.terms),
        None if message.spooled else message.octets,
        now,
        json.dumps([recipient_row(one) for one in envelope.recipients]),
    )


def _octets(reader: sqlite3.Connection, message: Message, size: int) -> bytes:
    """The first `size` octets of a body that is a row, all of them if it is negative."""
    wanted = "octets" if size < 0 else f"substr(octets, 1, {size})"
    row = reader.execute(f"SELECT {wanted} FROM body WHERE id = ?", (message.id,)).fetchone()
    if row is None or row[0] is None:
        raise StoreError(f"message {message.name} has no content in the queue")
    return bytes(row[0])
