"""A message as it arrives: small ones in memory, larger ones in a spool file that is written meanwhile.

1. It is in memory up to IN_MEMORY, or where there is much of others already, up to HEADER. Its header block is looked
   at once, then or at the end: so the fields that we add, and a refusal, are known before the first octet is written.
2. The file's octets are written by a thread, one piece after the other; `backlogged` tells when the connection has to
   be paused, since too much of this message waits for the disk, or of all messages together.
3. Where it would take the space that is to stay free, nothing more of it is kept, and it is refused at its end.
4. At the end the file is fsynced, and its directory, before anybody hears of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.durable import sync_directory
from dcrouter.errors import Refused, StoreError, StoreFull
from dcrouter.mail.message import spool_path
from dcrouter.mail.server.spool import HEADER, Spool
from dcrouter.wire.header import block, count, is_tls_optional
from dcrouter.wire.smtp.said import FULL

MAX_BACKLOG = 1024 * 1024
"""Octets of one message that may wait for the disk before the client has to."""

PIECE = 256 * 1024
"""Octets that gather before a thread writes them, and that are read at once: handing it each piece as it comes, or
64 KB at a time, costs more than the writing.
"""

MAX_HOPS = 50
"""Received fields, ours included, after which a message is taken for one that goes in circles (RFC 5321 6.3)."""

_LOOP = b"554 5.4.6 Too many hops\r\n"
_FOLDED = b"554 5.6.0 The message begins with a continuation line\r\n"
_UTF8_HEADER = b"554 5.6.9 A header beyond ASCII needs SMTPUTF8\r\n"
_LONG_HEADER = b"554 5.6.0 The header of the message is longer than 64 KB\r\n"

Complete = Callable[[bytes], bytes]
"""Gets a message's header block, gives the fields to put before it, or raises Refused with the reply."""


class Screen(Protocol):
    """Sees a message as it passes; see mail/authentication. `room`: octets to keep free before it for what is found."""

    @property
    def room(self) -> int: ...

    def header(self, head: bytes) -> bytes:
        """The header block as it is kept."""
        ...

    def body(self, octets: bytes) -> None: ...


class Intake:
    """One message, which begins with `trace`.

    `complete`, where given, adds to its header. `room` is called when there is no backlog (any more). `refusal`: the
    reply that the message has earned by its header, once that has been looked at, after `end` at the latest; or for
    want of space. `announced`: octets that the client said it has. `tls_optional`: the header says `TLS-Required: No`.
    `head`: its header block as it is kept, without what we add, once that has been looked at; `utf8`: it may be
    beyond ASCII; `asked`: somebody needs all of it. `arrived`: octets that the client has sent.
    """

    _log = Logger()

    def __init__(
        self,
        spool: Spool,
        message: int,
        trace: bytes,
        room: Callable[[], None],
        complete: Complete | None = None,
        announced: int = 0,
        screen: Screen | None = None,
        *,
        asked: bool = False,
        utf8: bool = True,
    ) -> None:
        self.arrived = 0
        self.size = len(trace)
        self.eightbit = False
        self.spooled = False
        self.refusal: bytes | None = None
        self.tls_optional = False
        self.head = b""
        self._spool = spool
        self._message = message
        self._room = room
        self._complete = complete
        self._screen = screen
        self._asked = asked
        self._utf8 = utf8
        self._looked = False
        self._sealed = b""
        self._trace = trace
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._leaving = 0
        self._held = 0
        self._granted = 0
        self._announced = 0
        self._announce(announced)
        self._fd: int | None = None
        self._writing = False
        self._error: OSError | None = None
        self._ended: Deferred[None] | None = None
        self._abandoned = False

    @property
    def backlogged(self) -> bool:
        """Whether the client has to wait for the disk."""
        if self.refusal is not None:
            return False
        return self._waiting > MAX_BACKLOG or (self._waiting > 0 and self._spool.full)

    @property
    def octets(self) -> bytes | None:
        """The message, where it has stayed in memory."""
        return None if self.spooled else b"".join((self._trace, *self._pieces))

    def add(self, octets: bytes) -> None:
        """The next octets, in any pieces."""
        if not self.eightbit and not octets.isascii():
            self.eightbit = True
        self.size += len(octets)
        self.arrived += len(octets)
        if self._error is not None or self.refusal is not None:
            return
        self._announce(-min(len(octets), self._announced))
        self._pieces.append(octets)
        if self.spooled:
            if self._screen is not None:
                self._screen.body(octets)
            self._grow(len(octets))
            return
        self._hold(len(octets))
        if self.size > self._spool.in_memory:
            self._look(ended=False)
            self._hold(-self._held)
            if self.refusal is None:
                self.spooled = True
                if self._screen is not None:
                    self._sealed = b" " * self._screen.room
                    self.size += len(self._sealed)
                self._pieces.insert(0, self._sealed + self._trace)
                self._grow(self.size)

    def look(self) -> None:
        """All is here: the header has been looked at afterwards."""
        self._announce(-self._announced)
        if not self.spooled and not self._looked and self.refusal is None:
            self._look(ended=True)

    @property
    def room(self) -> int | None:
        """Octets that are kept free for `seal`, None: any number will do."""
        return len(self._sealed) if self.spooled else None

    def seal(self, field: bytes) -> None:
        """What comes before all else; of `room` octets."""
        self._sealed = field
        if not self.spooled:
            self.size += len(field)
            self._trace = field + self._trace

    def end(self) -> Deferred[None] | None:
        """All is here: fires when the spool file is durable, fails with StoreError; None where there is none.

        A message with a `refusal` is gone.
        """
        self.look()
        if not self.spooled:
            self._hold(-self._held)
        if self.refusal is not None or not self.spooled:
            return None
        if self._error is not None:
            return fail(_as_store_error(self._error))
        self._ended = Deferred()
        self._write()
        return self._ended

    def abandon(self) -> None:
        """The message is refused or cut off: nothing of it stays."""
        self._abandoned = True
        self._announce(-self._announced)
        if self.spooled:
            dropped = sum(map(len, self._pieces))
            self._count(-dropped)
            self._leave(self._granted - dropped)
            self._granted = 0
        self._hold(-self._held)
        self._pieces.clear()
        if self.spooled and not self._writing:
            self._writing = True
            self._spool.in_thread(self._remove).addErrback(self._not_removed).addCallback(
                lambda _: self._leave(-self._leaving)
            )

    # ------------------------------------------------------------------ the header

    def _look(self, *, ended: bool) -> None:
        self._looked = True
        content = b"".join(self._pieces)
        self._pieces = [content]
        head = block(content)
        whole = head is not None or ended
        if head is None:
            head = content
        self.head = head
        try:
            if count(head, b"received") + 1 >= MAX_HOPS:
                raise Refused("too many hops", _LOOP)
            if content.startswith((b" ", b"\t")):  # else it would go on with a field of ours (RFC 5322 2.2.3)
                raise Refused("a first line that begins with a blank", _FOLDED)
            if not self._utf8 and not head.isascii():
                raise Refused("a header beyond ASCII", _UTF8_HEADER)
            self.tls_optional = is_tls_optional(head)
            read = self._asked or self._complete is not None or self._screen is not None
            if read and (len(head) > HEADER or not whole):
                raise Refused("a header beyond 64 KB", _LONG_HEADER)
            if self._screen is not None:
                self.head = self._keep(content, head, self._screen)
            if self._complete is not None:
                added = self._complete(head)
                self._trace += added
                self.size += len(added)
        except Refused as refused:
            assert refused.reply is not None
            self.refusal = refused.reply
            self._announce(-self._announced)
            self._pieces.clear()

    def _keep(self, content: bytes, head: bytes, screen: Screen) -> bytes:
        """The header as the screen leaves it; the body, without the line between them, is for it to see."""
        kept = screen.header(head)
        if len(kept) != len(head):
            self.size += len(kept) - len(head)
            self._hold(len(kept) - len(head))
            self._pieces = [kept + content[len(head) :]]
        screen.body(content[len(head) + 2 :])
        return kept

    # ------------------------------------------------------------------ the spool file

    def _hold(self, octets: int) -> None:
        self._held += octets
        self._spool.held += octets

    def _count(self, octets: int) -> None:
        self._waiting += octets
        self._spool.unwritten += octets

    def _announce(self, octets: int) -> None:
        self._announced += octets
        self._spool.announced += octets

    def _leave(self, octets: int) -> None:
        self._leaving += octets
        self._spool.leaving += octets

    def _grow(self, octets: int) -> None:
        """So many octets more are in `_pieces`."""
        self._count(octets)
        self._granted += octets
        if self._spool.grant(octets):
            self._write_enough()
        else:
            self.refusal = FULL
            self.abandon()

    def _write_enough(self) -> None:
        if self._waiting >= PIECE or (self._waiting and self._spool.full):
            self._write()

    def _write(self) -> None:
        if self._writing:
            return
        self._writing = True
        pieces, self._pieces = self._pieces, []
        octets, last = sum(map(len, pieces)), self._ended is not None
        self._spool.in_thread(self._append, pieces, last).addCallbacks(
            self._written, self._unwritten, callbackArgs=(octets, last), errbackArgs=(octets,)
        )

    @property
    def _path(self) -> Path:
        return spool_path(self._spool.directory, self._message)

    def _append(self, pieces: list[bytes], last: bool) -> None:
        """In a thread: the pieces, and at the end the fsyncs."""
        if self._fd is None:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        view = memoryview(b"".join(pieces))
        while view:
            view = view[os.write(self._fd, view) :]
        if last:
            if self._sealed:
                os.pwrite(self._fd, self._sealed, 0)
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = None
            sync_directory(self._spool.directory)

    def _written(self, _: None, octets: int, last: bool) -> None:
        self._writing = False
        self._count(-octets)
        if self._abandoned:
            self.abandon()
            if self.refusal is not None:
                self._room()
        elif last and self._ended is not None:
            self._ended.callback(None)
        else:
            if self._ended is not None:
                self._write()
            else:
                self._write_enough()
            if self._ended is None and not self.backlogged:
                self._room()

    def _unwritten(self, failure: Failure, octets: int) -> None:
        self._writing = False
        error = failure.value
        self._error = error if isinstance(error, OSError) else OSError(errno.EIO, str(error))
        self._count(-octets)
        self.abandon()
        if self._ended is not None:
            self._ended.errback(Failure(_as_store_error(self._error)))
        else:
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
