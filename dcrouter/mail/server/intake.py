"""A message as it arrives: small ones in memory, larger ones in a spool file that is written meanwhile.

The file's octets are written by a thread, one piece after the other; `backlog` says how much waits for it, so that the
connection can be paused. At the end the file is fsynced, and its directory, before anybody hears of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.errors import StoreError, StoreFull
from dcrouter.mail.delivery.maildir import sync_directory
from dcrouter.mail.message import IN_MEMORY
from dcrouter.mail.server.admission import hops

MAX_BACKLOG = 1024 * 1024
"""Octets that may wait for the disk before the client has to."""

InThread = Callable[..., Deferred[Any]]


class Intake:
    """One message, which begins with `trace`. `room` is called when a backlog beyond MAX_BACKLOG has been written."""

    _log = Logger()

    def __init__(self, path: Path, trace: bytes, in_thread: InThread, room: Callable[[], None]) -> None:
        self.size = len(trace)
        self.hops = 0
        self.eightbit = False
        self.spooled = False
        self._path = path
        self._in_thread = in_thread
        self._room = room
        self._pieces = [trace]
        self._waiting = len(trace)
        self._fd: int | None = None
        self._writing = False
        self._error: OSError | None = None
        self._ended: Deferred[None] | None = None
        self._abandoned = False

    @property
    def backlogged(self) -> bool:
        """Whether the client has to wait for the disk."""
        return self.spooled and self._waiting > MAX_BACKLOG

    @property
    def octets(self) -> bytes | None:
        """The message, where it has stayed in memory."""
        return None if self.spooled else b"".join(self._pieces)

    def add(self, octets: bytes) -> None:
        """The next octets, in any pieces."""
        if not self.eightbit and not octets.isascii():
            self.eightbit = True
        self.size += len(octets)
        if self._error is not None:
            return
        self._pieces.append(octets)
        self._waiting += len(octets)
        if self.spooled:
            self._write()
        elif self.size > IN_MEMORY:
            self.hops = hops(b"".join(self._pieces))
            self.spooled = True
            self._write()

    def end(self) -> Deferred[None]:
        """All is here: fires when a spool file is durable (at once where there is none), fails with StoreError."""
        if not self.spooled:
            content = b"".join(self._pieces)
            self._pieces = [content]
            self.hops = hops(content)
            return succeed(None)
        if self._error is not None:
            return fail(_as_store_error(self._error))
        self._ended = Deferred()
        self._write()
        return self._ended

    def abandon(self) -> None:
        """The message is refused or cut off: nothing of it stays."""
        self._abandoned = True
        self._pieces.clear()
        if self.spooled and not self._writing:
            self._writing = True
            self._in_thread(self._remove).addErrback(self._not_removed)

    # ------------------------------------------------------------------ the spool file

    def _write(self) -> None:
        if self._writing:
            return
        self._writing = True
        pieces, self._pieces = self._pieces, []
        self._in_thread(self._append, pieces, self._ended is not None).addCallbacks(
            self._written, self._unwritten, callbackArgs=(sum(map(len, pieces)), self._ended is not None)
        )

    def _append(self, pieces: list[bytes], last: bool) -> None:
        """In a thread: the pieces, and at the end the fsyncs."""
        if self._fd is None:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        view = memoryview(b"".join(pieces))
        while view:
            view = view[os.write(self._fd, view) :]
        if last:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = None
            sync_directory(self._path.parent)

    def _written(self, _: None, count: int, last: bool) -> None:
        self._writing = False
        was_backlogged = self.backlogged
        self._waiting -= count
        if self._abandoned:
            self.abandon()
        elif last and self._ended is not None:
            self._ended.callback(None)
        else:
            if self._pieces or self._ended is not None:
                self._write()
            if was_backlogged and not self.backlogged:
                self._room()

    def _unwritten(self, failure: Failure) -> None:
        self._writing = False
        was_backlogged = self.backlogged
        error = failure.value
        self._error = error if isinstance(error, OSError) else OSError(errno.EIO, str(error))
        self._waiting = 0
        self.abandon()
        if self._ended is not None:
            self._ended.errback(Failure(_as_store_error(self._error)))
        elif was_backlogged:
            self._room()

    def _remove(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._path.unlink(missing_ok=True)

    def _not_removed(self, failure: Failure) -> None:
        self._log.warn("a spool file stays until the next start: {reason}", reason=failure.getErrorMessage())


def _as_store_error(error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull(str(error))
    return StoreError(str(error))
