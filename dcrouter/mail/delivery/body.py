"""The octets of a message on their way into a connection, as fast as its transport has room for them.

Two ways. `Pieces`, a push producer: what has to be read and perhaps stuffed with dots, piece by piece in a thread.
`File`, a pull producer: a spool file that leaves as it is; sendfile takes it from the page cache into the socket, and
its octets never come into Python. Where they are not in the page cache, a thread reads them first: the reactor does not
wait for a disk.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from dcrouter.errors import StoreError
from dcrouter.wire.smtp.data import Stuffer, Unchanged

PIECE = 256 * 1024
"""Octets that are read at once, or sent before others have their turn."""

WINDOW = 1024 * 1024
"""Octets that are known to be in the page cache, or read into it, at once."""

NextPiece = Callable[[], Deferred[bytes]]
"""The next piece of a content, b"" at its end; fails with StoreError or OSError."""


class SpoolFile(NamedTuple):
    """`in_thread`: runs a call that waits for the disk."""

    path: Path
    size: int
    in_thread: Callable[..., Deferred[Any]]


class Content(Protocol):
    """Where a message's octets come from. `dotless`: as Message has it."""

    octets: bytes | None
    dotless: bool

    def pieces(self) -> NextPiece:
        """Reads it from its start, for contents that are not in memory."""

    def file(self) -> SpoolFile | None:
        """Where it is one."""


@frozen
class Progress:
    """Who hears of it: octets that were taken, the end (the end mark is written), or why it cannot be read, once."""

    moved: Callable[[int], None]
    sent: Callable[[], None]
    failed: Callable[[str], None]


@implementer(IPushProducer)
class Pieces:
    """`next_piece` gives what `transport` gets, stuffed, or as it is where it is a `chunk`; one after the other.

    Not a pull producer: TLS asks one again and again while a piece is being read, and pieces would overtake each other.
    """

    streaming = True

    def __init__(self, next_piece: NextPiece, transport: Any, progress: Progress, *, chunk: bool = False) -> None:
        self._next_piece = next_piece
        self._transport = transport
        self._progress = progress
        self._stuffer = Unchanged() if chunk else Stuffer()
        self._paused = False
        self._reading = False
        self._stopped = False

    def begin(self) -> None:
        """It is registered."""
        self._read()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport has room."""
        self._paused = False
        self._read()

    def stopProducing(self) -> None:
        self._stopped = True

    def _read(self) -> None:
        """The next piece is read, in a thread, and written."""
        if not (self._paused or self._reading or self._stopped):
            self._reading = True
            self._next_piece().addCallbacks(self._piece, self._unreadable)

    def _piece(self, piece: bytes) -> None:
        self._reading = False
        if self._stopped:
            return
        if piece:
            self._transport.write(self._stuffer.send(piece))
            self._progress.moved(len(piece))
            self._read()
        else:
            self._stopped = True
            self._transport.write(self._stuffer.end())
            self._progress.sent()

    def _unreadable(self, failure: Failure) -> None:
        failure.trap(StoreError, OSError)
        self._progress.failed(failure.getErrorMessage())


@implementer(IPullProducer)
class File:
    """`file` goes into `plain`, the socket of `transport`, which has nothing else to send meanwhile; with an end mark,
    unless it is a `chunk`.
    """

    streaming = False

    def __init__(
        self, file: SpoolFile, plain: socket.socket, transport: Any, progress: Progress, *, chunk: bool = False
    ) -> None:
        self._file = file
        self._end = b"" if chunk else b".\r\n"
        self._socket = plain
        self._transport = transport
        self._progress = progress
        self._fd: int | None = None
        self._at = 0
        self._cached = 0
        self._reading = False
        self._stopped = False

    def begin(self) -> None:
        """It is registered, and has been asked."""

    def resumeProducing(self) -> None:
        """The socket has room, perhaps."""
        if self._stopped or self._reading:
            return
        try:
            if self._fd is None:
                self._fd = os.open(self._file.path, os.O_RDONLY | os.O_CLOEXEC)
                self._transport.startWriting()  # it asks again when it has nothing left to write itself
                return
            if self._at >= self._cached and not self._in_cache(self._fd):
                self._read_ahead(self._fd)
                return
            count = min(PIECE, self._cached - self._at)
            sent = os.sendfile(self._socket.fileno(), self._fd, self._at, count)
        except BlockingIOError:
            self._transport.startWriting()
        except ConnectionError:
            pass  # the transport meets it when it reads
        except OSError as error:
            self._fail(str(error))
        else:
            self._at += sent
            self._progress.moved(sent)
            if self._at == self._file.size:
                self.stopProducing()
                self._transport.write(self._end)
                self._progress.sent()
            elif sent:
                self._transport.startWriting()
            else:
                self._fail("the file has become shorter")

    def stopProducing(self) -> None:
        self._stopped = True
        if self._fd is not None and not self._reading:
            os.close(self._fd)
            self._fd = None

    def _fail(self, reason: str) -> None:
        self.stopProducing()
        self._progress.failed(reason)

    def _in_cache(self, fd: int) -> bool:
        """Looks at both ends of the next window; there the file came from a moment ago."""
        end = min(self._at + WINDOW, self._file.size)
        try:
            for at in (self._at, end - 1):
                os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT)
        except OSError:
            return False  # it would have to wait, or cannot tell, or the thread meets the error again
        self._cached = end
        return True

    def _read_ahead(self, fd: int) -> None:
        self._reading = True
        end = min(self._at + WINDOW, self._file.size)

        self._file.in_thread(os.pread, fd, end - self._at, self._at).addCallbacks(self._read, self._unread, (end,))

    def _read(self, _: bytes, end: int) -> None:
        self._reading = False
        self._cached = end
        if self._stopped:
            self.stopProducing()  # the file was still needed then
        else:
            self.resumeProducing()

    def _unread(self, failure: Failure) -> None:
        self._reading = False
        if self._stopped:
            self.stopProducing()
        else:
            self._fail(failure.getErrorMessage())
