"""A socket that is opened and connected, as the engine drives it: to one literal address (net/race.py: to several)."""

from __future__ import annotations

import errno
import os
import socket
from _socket import socket as RawSocket

from dcrouter.net.engine import ENDED, FAILED, OUT, WAIT, WATCH_BOTH, WATCH_READ, Task
from dcrouter.net.stream import Plain


async def connect(stream: Plain, address: tuple[str, int] | str, beside: Plain | None = None) -> None:
    """Connect `stream` (fresh, not watched yet) to a literal address or a path; OSError says why not.

    Done on OUT or ERR only: the caller's other socket, `beside`, may wake the task meanwhile. When that one fails there
    is nobody left to connect for: ConnectionAbortedError.
    """
    sock = stream.sock
    error = sock.connect_ex(address)
    if error == errno.EINPROGRESS:
        # On this host the handshake is over before connect returns; asking again is cheaper than an event.
        error = sock.connect_ex(address)
        if error == errno.EALREADY:
            stream.watch(WATCH_BOTH)
            while not stream.ready & (OUT | ENDED):
                if beside is not None and beside.ready & FAILED:
                    raise ConnectionAbortedError(errno.ECONNABORTED, "gone before the target answered")
                await WAIT
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
    stream.ready |= OUT
    stream.watch(stream.watching or WATCH_READ)


def open_socket(task: Task, family: int, *, speaks: bool = False) -> Plain:
    """A new, unconnected stream socket; OSError where descriptors have run out.

    `speaks`: we have something to say as soon as it is connected. That acknowledges the connection too, which saves a
    packet (tcp(7), TCP_QUICKACK), and the other side a wake-up for nothing.
    """
    sock = RawSocket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if speaks:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    return Plain(task, sock, 0)
