"""Messages between dcrouter's own processes: JSON with a length before it, and open files beside it, over a unix
socketpair.

1. A frame is a 9-byte head (payload length, file count, both big endian: 8 + 1 bytes) and a JSON array `[kind,
   fields]`.
2. Files travel with the first byte of their frame (SCM_RIGHTS, unix(7)); the kernel keeps their order, so they are
   queued as they arrive and each frame takes as many as its head says.
3. Both ends are our own processes; still every length is bounded, and a frame that breaks the format closes the
   channel.

There is one way for this, in tests as in production: tests run the roles in one process over the same socketpairs.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorFDSet, IReadWriteDescriptor
from zope.interface import implementer

from dcrouter.errors import WireError

MAX_FRAME = 256 * 1024 * 1024
"""A configuration of 100 000 routes is about 100 MB as JSON; nothing else comes near."""
MAX_FILES = 200
"""Per frame; the kernel's own bound is 253 (SCM_MAX_FD)."""
HEAD = struct.Struct(">QB")
READ_SIZE = 1 << 16
_FILES_SIZE = socket.CMSG_SPACE(MAX_FILES * 4)
_CTRUNC = int(socket.MSG_CTRUNC)  # its enum's arithmetic is half a microsecond of each message

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

Received = Callable[[str, dict[str, Any], list[int]], None]
"""(kind, fields, file descriptors): the receiver owns the descriptors from then on."""


def pack(kind: str, fields: Mapping[str, Any], files: int) -> bytes:
    """One frame, ready to be sent together with `files` descriptors."""
    payload = _encode([kind, fields]).encode()
    return HEAD.pack(len(payload), files) + payload


@implementer(IReadWriteDescriptor)
class Channel:
    """One end. `received` is called for each message, `lost` once when the other end is gone or talks nonsense.

    `send` never blocks: what the kernel does not take now waits in memory (see `waiting`, for senders that must hold
    back).
    """

    def __init__(
        self, reactor: IReactorFDSet, sock: socket.socket, received: Received, lost: Callable[[str], None]
    ) -> None:
        sock.setblocking(False)
        self.reactor = reactor
        self.sock = sock
        self.received = received
        self.lost = lost
        self._outgoing: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._incoming = bytearray()
        self._files: deque[int] = deque()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many frames wait for the other end to read."""
        return len(self._outgoing)

    def start(self) -> None:
        """Begin to read; before this nothing is received."""
        self.reactor.addReader(self)

    def send(self, kind: str, fields: Mapping[str, Any] | None = None, fds: Sequence[int] = ()) -> None:
        """Send one message. The descriptors are duplicated, so the sender keeps (and closes) its own. Dropped after
        close. OSError where descriptors have run out, and nothing else: a dead channel is told to `lost`.
        """
        if self._closed:
            return
        if len(fds) > MAX_FILES:
            raise ValueError(f"at most {MAX_FILES} files in a message")
        frame = memoryview(pack(kind, fields or {}, len(fds)))
        sent = 0
        if not self._outgoing:
            try:
                sent = self._write(frame, fds)
            except OSError:  # the writer meets it again, outside of the caller's own work, and ends the channel
                sent = 0
        if sent < len(frame):
            self._outgoing.append((frame[sent:], () if sent else _copies(fds)))
            self.reactor.addWriter(self)

    def flush(self, timeout: float) -> None:
        """Write what still waits, blocking for at most `timeout` seconds in all: for the last words of a process."""
        end = time.monotonic() + timeout
        writable = select.poll()
        with contextlib.suppress(OSError):
            while self._outgoing and (left := end - time.monotonic()) > 0:
                writable.register(self.sock, select.POLLOUT)
                writable.poll(left * 1000)
                self._write_all()

    def close(self) -> None:
        """Close this end; `lost` is not called for it."""
        if self._closed:
            return
        self._closed = True
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)
        self.sock.close()
        for fd in self._files:
            os.close(fd)
        for _, fds in self._outgoing:
            for fd in fds:
                os.close(fd)
        self._files.clear()
        self._outgoing.clear()

    # What the reactor calls.

    def fileno(self) -> int:
        return self.sock.fileno() if not self._closed else -1

    def logPrefix(self) -> str:
        return "channel"

    def doRead(self) -> None:
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(READ_SIZE, _FILES_SIZE, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(str(error))
            return
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self._files.extend(numbers)
        if flags & _CTRUNC:
            self._end("files were lost on the way: the limit of open files is too low")
            return
        if not data:
            self._end("the other end closed")
            return
        self._incoming += data
        try:
            self._deliver()
        except WireError as error:
            self._end(str(error))

    def doWrite(self) -> None:
        try:
            self._write_all()
        except OSError as error:
            self._end(str(error))
            return
        if not self._outgoing:
            self.reactor.removeWriter(self)

    def connectionLost(self, reason: object) -> None:
        self._end(str(reason))

    # Frames.

    def _write_all(self) -> None:
        while self._outgoing:
            frame, fds = self._outgoing[0]
            sent = self._write(frame, fds)
            if not sent:
                return
            self._outgoing[0] = (frame[sent:], ())
            for fd in fds:
                os.close(fd)
            if sent == len(frame):
                self._outgoing.popleft()

    def _write(self, frame: memoryview, fds: Sequence[int]) -> int:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            return self.sock.sendmsg([frame], ancillary, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0

    def _deliver(self) -> None:
        while len(self._incoming) >= HEAD.size and not self._closed:
            length, files = HEAD.unpack_from(self._incoming)
            if length > MAX_FRAME or files > MAX_FILES:
                raise WireError(f"a message of {length} bytes and {files} files")
            end = HEAD.size + length
            if len(self._incoming) < end:
                return
            kind, fields = _unpack(self._incoming[HEAD.size : end])
            del self._incoming[:end]
            if len(self._files) < files:
                raise WireError("a message without its files")
            if len(self._files) > files and not self._incoming:
                raise WireError("files without a message")
            self.received(kind, fields, [self._files.popleft() for _ in range(files)])

    def _end(self, reason: str) -> None:
        if not self._closed:
            self.close()
            self.lost(reason)


def _unpack(payload: bytearray) -> tuple[str, dict[str, Any]]:
    try:
        message = json.loads(payload.decode())
    except (ValueError, RecursionError) as error:
        raise WireError("a message that is not JSON") from error
    match message:
        case [str(kind), dict(fields)]:
            return kind, fields
    raise WireError("a message that is not a kind with its fields")


def _copies(fds: Sequence[int]) -> tuple[int, ...]:
    """Duplicates of all, or of none where descriptors have run out (OSError)."""
    copies: list[int] = []
    try:
        for fd in fds:
            copies.append(os.dup(fd))
    except OSError:
        for fd in copies:
            os.close(fd)
        raise
    return tuple(copies)
