"""A copy of the queue while mail flows, made by a process of its own: the rows first, then the files that they name.

1. SQLite's backup copies the database as it is at one instant; whoever writes goes on.
2. The spool file of each row is linked, or copied where the backup is on another disk. A file is durable before its row
   is, and is removed only after its row: one that is missing belongs to a message that has left the queue since, and
   its row leaves the copy.
3. All of it is synced, and only then gets its name. So every message of a backup is whole, and what is not in it has
   come after it, or has left before its end.

The copy has the layout of `state_dir/mail`, and takes its place to restore it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from attrs import frozen

from dcrouter.durable import sync_directory
from dcrouter.errors import StoreError
from dcrouter.mail.message import spool_path
from dcrouter.mail.queue.stores.schema import FILE, SPOOL

PARTIAL = ".partial"

_PATIENCE = 30.0
"""Seconds to wait for a database that is locked."""


@frozen(kw_only=True)
class Backup:
    """What was copied. `left`: messages that left the queue while it was."""

    messages: int
    files: int
    octets: int
    left: int


def back_up(queue: Path, to: Path) -> Backup:
    """Copies the queue in the directory `queue` to the new directory `to`. Blocks. Raises StoreError."""
    if not (queue / FILE).is_file():
        raise StoreError(f"there is no mail queue in {queue}")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise StoreError(f"{to} is there already")
    partial = to.with_name(to.name + PARTIAL)
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(mode=0o700, parents=True)
        (partial / SPOOL).mkdir(mode=0o700)
        copy = _copy_rows(queue / FILE, partial / FILE)
        try:
            made = _copy_files(copy, queue / SPOOL, partial / SPOOL)
        finally:
            copy.close()
        _give_to_owner_of(queue / FILE, partial)
        _sync(partial)
        partial.rename(to)
        sync_directory(to.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the backup to {to} failed: {error}") from error
    return made


def _copy_rows(source: Path, to: Path) -> sqlite3.Connection:
    """The copy, open. One step takes the whole: nothing that is written meanwhile makes it begin again."""
    os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    copy = sqlite3.connect(to, isolation_level=None)
    reading = sqlite3.connect(f"file:{_quoted(source)}?mode=rw", uri=True, isolation_level=None, timeout=_PATIENCE)
    try:
        reading.execute("PRAGMA query_only = ON")
        reading.backup(copy, pages=-1)
    finally:
        reading.close()
    copy.execute("PRAGMA journal_mode = DELETE")
    return copy


def _copy_files(copy: sqlite3.Connection, source: Path, to: Path) -> Backup:
    files = octets = 0
    gone: list[int] = []
    for (message,) in copy.execute("SELECT id FROM body WHERE octets IS NULL ORDER BY id").fetchall():
        size = _copy_file(spool_path(source, message), spool_path(to, message))
        if size is None:
            gone.append(message)
        else:
            files += 1
            octets += size
    copy.execute("BEGIN")
    for message in gone:
        copy.execute("DELETE FROM recipient WHERE message = ?", (message,))
        copy.execute("DELETE FROM body WHERE id = ?", (message,))
        copy.execute("DELETE FROM message WHERE id = ?", (message,))
    copy.execute("COMMIT")
    (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise StoreError(f"the copy of the queue is damaged: {verdict}")
    (messages,) = copy.execute("SELECT count(*) FROM message").fetchone()
    return Backup(messages=messages, files=files, octets=octets, left=len(gone))


def _copy_file(source: Path, to: Path) -> int | None:
    """Octets, None: the file has gone."""
    try:
        os.link(source, to)
        return to.stat().st_size
    except FileNotFoundError:
        return None
    except OSError:
        # Another disk, or one without links: its octets then. Once it is open, nobody can take it away.
        pass
    try:
        with source.open("rb") as reading, to.open("xb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            writing.flush()
            os.fsync(writing.fileno())
            return writing.tell()
    except FileNotFoundError:
        return None


def _give_to_owner_of(source: Path, made: Path) -> None:
    """Root makes backups; the service's user must be able to read them after a restore."""
    owner = source.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for path in (made, *made.iterdir(), *(made / SPOOL).iterdir()):
            os.chown(path, owner.st_uid, owner.st_gid)


def _sync(made: Path) -> None:
    with (made / FILE).open("rb") as file:
        os.fsync(file.fileno())
    sync_directory(made / SPOOL)
    sync_directory(made)


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
