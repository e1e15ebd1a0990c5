"""The one thread that writes to the queue's database: whatever has gathered becomes one commit.

Steps of its loop:

1. Puts first: a sender waits for each of them. One transaction for a whole group, however many there are (bounded).
   `Syncer` makes it durable, and meanwhile the next group is written.
2. Settles when they have become many, or a little old: nobody waits for them. Never in the transaction of a put.
   What was delivered or deferred is not even synced: the next put's sync is one of all that was written before it.
   Where none follows, it is done a little later. All that somebody is told of, or that removes a file, is.
3. The callers hear of a group at once, through one callFromThread.

Rows arrive as flat lists, made by the reactor's thread, and leave as few, long statements: Python gives the GIL up and
must win it back at every step of a statement, so a thousand single inserts would wait a thousand times. A usual group
of puts is one statement, which is its own transaction.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.errors import StoreError, StoreFull
from dcrouter.mail.queue.stores.groups import Puts, Settles
from dcrouter.mail.queue.stores.schema import ARRIVAL_COLUMNS
from dcrouter.mail.queue.stores.syncer import Syncer
from dcrouter.net.reactor import when_idle

MAX_GROUP = 500
"""Messages in one commit; as many bytes of bodies as MAX_GROUP_OCTETS."""
MAX_GROUP_OCTETS = 8 * 1024 * 1024

GATHER = 0.005
GATHER_SLOW = 0.0005
"""Seconds that messages gather while the reactor has other things to do, where it can tell: on a fast disk a group
would else be of one or two, and a commit costs as much of the processor as many messages do. On a slow one they have
waited for each other already.
"""

SETTLES_AT_ONCE = 400
"""Settles that are written without waiting for more ..."""
SETTLE_WITHIN = 0.01
SETTLE_SYNCED_WITHIN = 0.05
"""... and the seconds after which all are, with and without a sync: what a kill within them makes us send twice. Ten
milliseconds cost the processor no more than fifty do; a sync more often would cost those who wait for theirs.
"""

SYNC_WITHIN = 0.25
"""Seconds after which settles are synced where no put has done so: what a power failure within them makes us send
twice.
"""

_FOR_EVER = 3600.0

_AT_ONCE = 64
"""Messages in one statement."""


class Writer:
    """Owns the thread and the connection given to it, which it closes. `messages`: how many the store has."""

    _log = Logger()

    def __init__(self, connection: sqlite3.Connection, reactor: IReactorFromThreads, messages: int) -> None:
        self.messages = messages
        self._uncommitted = 0
        self._connection = connection
        self._reactor = reactor
        self._lock = threading.Lock()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._asleep = False
        self._when_idle = when_idle(reactor)
        self._gathering = False
        self._puts: deque[Puts] = deque()
        self._settles = Settles()
        self._closing = False
        (file,) = connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
        self._syncer = Syncer(f"{file}-wal", self._durable, lambda: self._bell.put(None))
        self._syncing = True  # as the connection comes
        self._synced = True
        self._unsynced_since = 0.0
        self._doubtful = False
        self._revoked: list[int] = []
        self._thread = threading.Thread(target=self._run, name="mail-store", daemon=True)
        self._thread.start()

    def put(self, arrival: Iterable[Any], size: int) -> Deferred[None]:
        """The row of one message, with `size` octets in it; fires when durable, fails with StoreError."""
        waiter: Deferred[None] = Deferred()
        with self._lock:
            group = self._puts[-1] if self._puts else None
            if group is None or len(group.waiters) >= MAX_GROUP or group.octets >= MAX_GROUP_OCTETS:
                group = Puts()
                self._puts.append(group)
            group.arrivals += arrival
            group.octets += size
            group.waiters.append(waiter)
        if not self._gathering:
            self._gathering = True
            self._when_idle(self._gathered, GATHER_SLOW if self._syncer.slow else GATHER)
        return waiter

    def settle(self, add: Callable[[Settles], None]) -> Deferred[None]:
        """`add` puts its rows into the coming group; fires when durable, fails with StoreError."""
        waiter: Deferred[None] = Deferred()
        with self._lock:
            first = not self._settles.waiters
            if first:
                self._settles.since = monotonic()
            add(self._settles)
            self._settles.waiters.append(waiter)
            early = first or self._settle_in() <= 0.0
        if early:  # else it knows when the group is due
            self._wake()
        return waiter

    def close(self) -> None:
        """Writes what has gathered, then closes; blocks until done."""
        self._closing = True
        self._bell.put(None)
        self._thread.join()

    def _gathered(self) -> None:
        with self._lock:
            self._gathering = False
        self._wake()

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._bell.put(None)

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while True:
            with self._lock:
                puts = self._puts.popleft() if self._puts and (self._closing or not self._gathering) else None
                settles = None
                left = self._settle_in()
                if left <= 0.0:
                    settles, self._settles = self._settles, Settles()
                failed = self._syncer.failed
                busy = puts is not None or settles is not None or failed
                left = min(left, self._sync_in())
                self._asleep = not busy and left > 0.0
            if failed:
                self._commit(self._write_settles, Settles())  # nothing, but what failed is taken back before it
            if puts is not None:
                self._commit(self._write_puts, puts)
            if settles is not None:
                self._commit(self._write_settles, settles)
            if busy:
                continue
            if left <= 0.0:
                self._sync()
            elif self._closing:
                self._close()
                return
            else:
                with contextlib.suppress(Empty):
                    self._bell.get(timeout=left if left < _FOR_EVER else None)

    def _close(self) -> None:
        failed = self._syncer.drain()
        if failed:
            self._revoke(failed)
            self._commit(self._write_settles, Settles())
        self._syncer.close()
        self._connection.close()

    def _settle_in(self) -> float:
        """Seconds until the settles that have gathered are to be written."""
        if not self._settles:
            return _FOR_EVER
        if self._closing or self._settles.orders or len(self._settles) >= SETTLES_AT_ONCE:
            return 0.0
        within = SETTLE_WITHIN if self._settles.may_be_forgotten else SETTLE_SYNCED_WITHIN
        return self._settles.since + within - monotonic()

    def _sync_in(self) -> float:
        """Seconds until what has been written without a sync is to have one."""
        if self._synced:
            return _FOR_EVER
        return 0.0 if self._closing else self._unsynced_since + SYNC_WITHIN - monotonic()

    def _sync(self) -> None:
        """Of all that is in the WAL."""
        self._synced = True
        self._syncer.add(Puts())

    def _durable(self, group: Puts) -> None:
        """In any thread."""
        self._reactor.callFromThread(_tell, group.waiters, None)

    def _commit(self, write: Callable[[Any], None], group: Puts | Settles) -> None:
        error: StoreError | None = None
        synced = isinstance(group, Settles) and not group.may_be_forgotten
        try:
            self._uncommitted = 0
            if self._doubtful or self._syncer.error is not None:
                self._begin_anew()
            elif synced:
                self._await_syncs()
            if synced != self._syncing:
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
                self._syncing = synced
            if isinstance(group, Puts) and len(group.waiters) <= _AT_ONCE:
                write(group)
            else:
                self._connection.execute("BEGIN IMMEDIATE")
                write(group)
                self._connection.execute("COMMIT")
            self.messages += self._uncommitted
            if isinstance(group, Puts):
                self._synced = True
                self._syncer.add(group)
                return
            if self._synced and not synced:
                self._synced, self._unsynced_since = False, monotonic()
        except StoreError as failure:
            error = failure
        except sqlite3.Error as failure:
            self._doubtful = self._doubtful or getattr(failure, "sqlite_errorname", "").startswith("SQLITE_IOERR")
            error = as_store_error(failure)
            self._roll_back()
        except Exception as failure:
            self._log.failure("a group of the mail queue could not be written")
            error = StoreError(f"{type(failure).__name__}: {failure}")
            self._roll_back()
        else:
            if isinstance(group, Settles):
                self._remove(group.spooled)
        self._reactor.callFromThread(_tell, group.waiters, error)

    def _await_syncs(self) -> None:
        """What is synced by its own commit is so alone: nobody else's sync could hide that this one has failed."""
        failed = self._syncer.drain()
        if failed:
            self._revoke(failed)
            self._begin_anew()

    def _begin_anew(self) -> None:
        """After a sync that failed, which the kernel says once: a later one succeeds without what that one was for, and
        whatever is written behind it is out of reach after a power failure. So all of the WAL, as it can still be read,
        goes into the database, which is synced, and nothing is written behind it. Puts that have failed by then are
        taken out again. Raises StoreError, sqlite3.Error.
        """
        self._doubtful = True
        self._revoke(self._syncer.drain())
        (busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        if busy:
            raise StoreError("the mail queue is being read, and cannot begin its log anew after a failed sync")
        self._syncer.begin_anew()
        if self._revoked:
            self._connection.execute("BEGIN IMMEDIATE")
            gone = self._remove_messages(self._revoked)
            self._connection.execute("COMMIT")
            self.messages -= gone
            self._revoked.clear()
        self._doubtful = False

    def _revoke(self, failed: list[Puts]) -> None:
        """Their clients keep what could not be synced; its rows go as soon as the disk takes that."""
        if not failed:
            return
        reason = str(self._syncer.error)
        self._log.warn("the mail queue could not be synced: {reason}", reason=reason)
        for group in failed:
            self._revoked += group.arrivals[::ARRIVAL_COLUMNS]
            self._reactor.callFromThread(_tell, group.waiters, StoreError(f"the mail queue was not synced: {reason}"))

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as failure:
                self._log.error("the mail queue could not roll back: {reason}", reason=str(failure))

    def _write_puts(self, group: Puts) -> None:
        self._arrive(group.arrivals)

    def _arrive(self, flat: list[Any]) -> None:
        step = _AT_ONCE * ARRIVAL_COLUMNS
        for at in range(0, len(flat), step):
            rows = flat[at : at + step]
            count = len(rows) // ARRIVAL_COLUMNS
            self._connection.execute("INSERT INTO arrival VALUES " + ",".join([_ROW] * count), rows)
            self._uncommitted += count

    def _write_settles(self, group: Settles) -> None:
        execute = self._connection.execute
        changed = 0
        for before, order in group.orders:
            if before > changed:
                execute(_CHANGE, (json.dumps(group.changed[changed:before]),))
                changed = before
            order.write(self._connection)
        if group.notices:
            self._arrive(group.notices)
        if len(group.changed) > changed:
            execute(_CHANGE, (json.dumps(group.changed[changed:]),))
        if group.gone:
            pairs = json.dumps(group.gone)
            execute(_GONE, (pairs,))
            execute(_UNREFERENCED_BODY, (pairs,))
            self._uncommitted -= execute(_UNREFERENCED_MESSAGE, (pairs,)).rowcount
        if group.done:
            self._uncommitted -= self._remove_messages(group.done)

    def _remove_messages(self, ids: list[int]) -> int:
        """How many of them there were."""
        execute, which = self._connection.execute, (json.dumps(ids),)
        execute(_DONE_RECIPIENTS, which)
        execute(_DONE_BODIES, which)
        return execute(_DONE_MESSAGES, which).rowcount

    def _remove(self, spooled: list[tuple[int, Path]]) -> None:
        for message, path in spooled:
            if not self._connection.execute("SELECT 1 FROM message WHERE id = ?", (message,)).fetchone():
                try:
                    path.unlink(missing_ok=True)
                except OSError as failure:
                    self._log.warn("a spool file stays until the next start: {reason}", reason=str(failure))


_ROW = "(" + ",".join("?" * ARRIVAL_COLUMNS) + ")"
_CHANGE = """
UPDATE recipient SET
    state = new.state, attempts = new.attempts, due = new.due, told = new.told, reply = new.reply,
    source = new.source
FROM (
    SELECT json_extract(value, '$[0]') AS message, json_extract(value, '$[1]') AS number,
        json_extract(value, '$[2]') AS state, json_extract(value, '$[3]') AS attempts,
        json_extract(value, '$[4]') AS due, json_extract(value, '$[5]') AS told,
        json_extract(value, '$[6]') AS reply, json_extract(value, '$[7]') AS source FROM json_each(?)
) AS new WHERE recipient.message = new.message AND recipient.number = new.number"""
_DONE_RECIPIENTS = "DELETE FROM recipient WHERE message IN (SELECT value FROM json_each(?))"
_DONE_BODIES = "DELETE FROM body WHERE id IN (SELECT value FROM json_each(?))"
_DONE_MESSAGES = "DELETE FROM message WHERE id IN (SELECT value FROM json_each(?))"
_GONE = """
DELETE FROM recipient WHERE (message, number) IN
    (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"""
_UNREFERENCED_BODY = """
DELETE FROM body WHERE id IN (SELECT json_extract(value, '$[0]') FROM json_each(?))
    AND NOT EXISTS (SELECT 1 FROM recipient WHERE recipient.message = body.message)"""
_UNREFERENCED_MESSAGE = """
DELETE FROM message WHERE id IN (SELECT json_extract(value, '$[0]') FROM json_each(?))
    AND NOT EXISTS (SELECT 1 FROM recipient WHERE recipient.message = message.id)"""


def as_store_error(failure: sqlite3.Error) -> StoreError:
    """StoreFull where the disk has no room, else StoreError."""
    if getattr(failure, "sqlite_errorname", "") == "SQLITE_FULL":
        return StoreFull(str(failure))
    return StoreError(f"{type(failure).__name__}: {failure}")


def _tell(waiters: list[Deferred[None]], error: StoreError | None) -> None:
    for waiter in waiters:
        if error is None:
            waiter.callback(None)
        else:
            waiter.errback(Failure(error))
