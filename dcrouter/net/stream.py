"""A socket as the engine sees it: `Plain`, and `Tls` (pyOpenSSL straight on the socket). Coroutines own and close them.

`recv` gives bytes, b"" at the peer's end, or None when it would block; `send` gives how many bytes were taken, 0 when
it would block. Failures are OSError (the socket's) or TlsError. Both are tried first and waited for then (`await
WAIT`).
"""

from __future__ import annotations

import contextlib
import os
import socket
from _socket import (
    socket as RawSocket,
)  # without the enum and makefile layers of socket.socket: made for every connection

from OpenSSL import SSL

from dcrouter.errors import TlsError, reason_of
from dcrouter.net.engine import FAILED, IN, OUT, RDHUP, READABLE, UNSURE, WAIT, WATCH_BOTH, WATCH_READ, Task
from dcrouter.net.openssl import CUT, READ_MORE, WRITE_MORE, Records, ServerSession, clear_errors, had_last_word
from dcrouter.wire.hostname import host_name

RECV = 16384
"""What a small exchange reads at once; a read that fills it is taken for a bulk transfer."""
GATHER = 131072
"""What is worth a wake-up in the midst of a bulk transfer."""
BULK = 262144
"""What a bulk transfer through Python reads and writes at once: one step's budget."""


class Plain:
    """A non-blocking TCP or unix socket, registered with the engine until closed or released.

    `over`: there is nothing behind what was read last but the peer's end.
    """

    __slots__ = ("_low_water", "_sock", "fd", "over", "ready", "task", "watching")

    def __init__(self, task: Task, sock: RawSocket | int, ready: int) -> None:
        """Take `sock` over. `ready`: what is worth trying at once (IN, OUT); nothing is watched yet.

        A bare descriptor will do: most connections never need more than read(2), write(2) and close(2).
        """
        self.task = task
        self._sock: RawSocket | None = None
        if isinstance(sock, int):
            self.fd = sock
        else:
            self._sock = sock
            self.fd = sock.fileno()
        self.ready = ready
        self.watching = 0
        self.over = False
        self._low_water = 1

    @property
    def sock(self) -> RawSocket:
        """For what only a socket can do."""
        if self._sock is None:
            self._sock = RawSocket(-1, -1, -1, self.fd)
        return self._sock

    def watch(self, events: int = WATCH_READ) -> None:
        """Let the engine report `events` from now on; what is ready already is reported (again)."""
        if self.watching != events:
            if self.watching:
                self.task.engine.rewatch(self.fd, events)
            else:
                self.task.engine.watch(self.fd, self, events)
            self.watching = events

    def recv(self, size: int = RECV) -> bytes | None:
        if self.over:
            return b""
        if not self.ready & READABLE:
            return None
        try:
            data = os.read(self.fd, size)
        except BlockingIOError:
            self.ready &= ~IN
            return None
        if len(data) < size:
            self.drained()
        return data

    def recv_bulk(self, buffer: memoryview) -> memoryview | bytes | None:
        """Like `recv`, as much as fits into `buffer`; what it gives is good until the buffer is used again."""
        if self.over:
            return b""
        if not self.ready & READABLE:
            return None
        try:
            size = os.readv(self.fd, (buffer,))
        except BlockingIOError:
            self.ready &= ~IN
            return None
        if size < len(buffer):
            self.drained()
        return buffer[:size]

    def drained(self) -> None:
        """A short read has emptied the socket: whatever comes now is a new event (epoll(7), question 9), and after the
        peer's end nothing does.
        """
        unsure = self.ready & UNSURE
        if not unsure:
            self.ready &= ~IN
        elif unsure == RDHUP:
            self.over = True

    def peek(self, size: int) -> bytes | None:
        """The first bytes, left where they are; None when there are none yet."""
        if not self.ready & READABLE:
            return None
        try:
            return self.sock.recv(size, socket.MSG_PEEK)
        except BlockingIOError:
            self.ready &= ~IN
            return None

    def wake_at(self, size: int) -> None:
        """Be woken only when `size` bytes can be read (or at the end): SO_RCVLOWAT, socket(7). 1 is the normal
        state.
        """
        self.ready &= ~IN
        if size != self._low_water:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            self._low_water = size

    def gather(self) -> None:
        """Be woken when a good deal can be read, or after a moment: what a bulk transfer moves at once costs it one
        wake-up, however small the pieces in which it comes. Until `wake_at(1)`.
        """
        self.wake_at(GATHER)
        self.task.engine.nap(self)

    def send(self, data: bytes | memoryview, *, last: bool = False) -> int:
        """`last`: the end follows at once, and may leave with it in one packet."""
        if not self.ready & OUT:
            return 0
        try:
            # Python ignores SIGPIPE.
            size = self.sock.send(data, socket.MSG_MORE) if last else os.write(self.fd, data)
        except BlockingIOError:
            size = 0
        if size < len(data):
            self.blocked()
        return size

    def acknowledge(self) -> None:
        """Tell the peer at once that its bytes have arrived: it may wait for that, and there is nothing to send that
        would carry it (TCP_QUICKACK, tcp(7)).
        """
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def blocked(self) -> None:
        """The socket takes no more: wait for OUT."""
        self.ready &= ~OUT
        self.watch(WATCH_BOTH)

    def finish(self, last: bool = False) -> bool:
        """Half-close: the peer reads an end, the other direction lives on. Always True: that never waits.

        `last`: that one has ended already. The caller closes at once, which says the same.
        """
        if last:
            return True
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:  # reset already: nobody is there to be told
            return True
        return True

    def close(self) -> None:
        """Close (at the end of the batch), whatever state it is in. Once: the number may be somebody else's later."""
        if self.fd != -1:
            self.task.engine.close(self.fd, self._sock)
            self.fd = -1

    def abort(self) -> None:
        """Close with a reset: the peer learns that this was no regular end."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.close()

    def release(self) -> RawSocket:
        """Let the engine forget the socket, open as it is: the caller owns it from now on."""
        self.task.engine.forget(self.fd)
        return self.sock


class Tls:
    """A TLS session on a `Plain`. Owns it: closing this closes the socket.

    A read may wait for OUT and a write for IN (SSL_get_error(3)): `_read_on` and `_write_on` remember for which.
    `_held`: OpenSSL may have more of the last record, which brings no event. A peer that is gone without close_notify
    has cut its side off, but not once we have said ours: that is an end then.
    """

    __slots__ = ("_finished", "_held", "_read_on", "_records", "_serves", "_write_on", "connection", "plain")

    def __init__(self, plain: Plain, context: SSL.Context, *, serves: bool = False) -> None:
        """`serves`: ours is the server's side."""
        self.plain = plain
        self.connection: SSL.Connection
        if serves:
            self.connection = ServerSession(context, plain.fd)
        else:
            self.connection = SSL.Connection(context, plain.fd)  # type: ignore[arg-type]  # it asks for no more
            self.connection.set_connect_state()
        self._records = Records(self.connection)
        self._serves = serves
        self._finished = self._held = False
        self._read_on = READABLE
        self._write_on = OUT

    @property
    def task(self) -> Task:
        return self.plain.task

    @property
    def ready(self) -> int:
        return self.plain.ready

    async def handshake(self) -> None:
        """Do our side of it; TlsError when it fails. As a client, SNI and verification are the caller's.

        A client's last flight is acknowledged at once, by what answers it or alone: Nagle's algorithm may hold its
        request back until then.
        """
        plain = self.plain
        while True:
            try:
                step = self._records.handshake()
            except SSL.Error as error:
                cause = failure(error)
                raise TlsError(reason_of(cause)) from error
            if step == READ_MORE:
                plain.ready &= ~IN
            elif step == WRITE_MORE:
                plain.blocked()
            elif step == CUT:
                raise TlsError(CUT_OFF)
            else:
                break
            await WAIT
        if self._serves and had_last_word(self.connection):
            plain.acknowledge()

    def asked_name(self) -> str | None:
        """The name that the client asked for by SNI, None where that was none; of the server's side."""
        raw = self.connection.get_servername()
        try:
            return host_name(raw) if raw else None
        except ValueError:
            return None

    def recv(self, size: int = RECV) -> bytes | None:
        plain = self.plain
        if not (plain.ready & self._read_on or self._held):
            return None
        if self._finished and plain.ready & FAILED:
            return b""  # gone without a word, after our last one: most clients are
        try:
            given = self._records.read(size)
        except SSL.Error as error:
            raise failure(error) from error
        self._read_on = READABLE
        self._held = False
        if type(given) is bytes:
            data = given
            self._held = len(data) == size
        elif given == READ_MORE:
            plain.ready &= ~IN
            data = None
        elif given == WRITE_MORE:
            self._read_on = OUT
            plain.blocked()
            return None
        elif self._finished:  # a client that has its answer seldom says more
            data = b""
        else:
            raise ConnectionResetError(CUT_OFF)
        if self._write_on != OUT:
            # What the write waited for may just have been read, and there will be no other event for it.
            self._write_on = OUT
            self.task.engine.again(self.task)
        return data

    def send(self, data: bytes | memoryview) -> int:
        """As Plain.send; after 0 the same bytes (at least) must be offered again (SSL_write(3))."""
        if not self.plain.ready & self._write_on:
            return 0
        self._write_on = OUT
        try:
            size = self._records.write(data)
        except SSL.Error as error:
            raise failure(error) from error
        if size == WRITE_MORE:
            self.plain.blocked()
            return 0
        if size == READ_MORE:
            self._write_on = READABLE
            self.plain.ready &= ~IN
            return 0
        if size == CUT:
            raise ConnectionResetError(CUT_OFF)
        if self._read_on == OUT:
            # What the read had to write first has left with this.
            self._read_on = READABLE
            self.task.engine.again(self.task)
        return size

    def finish(self, last: bool = False) -> bool:
        """Send close_notify; the socket itself stays open for the other direction. Once, until it gives True.

        False: the socket is full, and close_notify would be lost; to be tried again.
        """
        try:
            if self._records.shutdown() == WRITE_MORE:
                self.plain.blocked()
                return False
        except SSL.Error as error:  # broken already: nobody is there to be told
            failure(error)
        self._finished = True
        return True

    def close(self) -> None:
        self.plain.close()

    def abort(self) -> None:
        """Close without close_notify: the peer learns that this was no regular end, and keeps what it was sent."""
        self.plain.close()


Stream = Plain | Tls
CUT_OFF = "the TLS session was cut off"


def failure(error: SSL.Error) -> OSError | TlsError:
    """What broke a session, as the socket's error or OpenSSL's, in one sentence.

    A bare FIN ends both directions: without close_notify nobody knows whether something is missing. OpenSSL has one
    error queue per thread, in which pyOpenSSL leaves a failed system call: the next session's failure would be taken
    for this one's, and before OpenSSL 4 even its success (SSL_get_error(3)).
    """
    clear_errors()
    if isinstance(error, SSL.SysCallError):
        number = error.args[0]
        return OSError(number, os.strerror(number)) if number > 0 else ConnectionResetError(CUT_OFF)
    try:
        reasons = [entry[2] for entry in error.args[0] if entry[2]]
    except (IndexError, TypeError):
        reasons = []
    return TlsError(", ".join(reasons) or "the TLS session has failed")


async def send_all(stream: Stream, data: bytes) -> None:
    """Send all of `data`; the deadline is the caller's."""
    rest = memoryview(data)
    while rest:
        size = stream.send(rest)
        rest = rest[size:]
        if rest and not size:
            await WAIT
