"""A connected socket as a Twisted transport, without the detours of adoptStreamConnection.

That one duplicates the descriptor, makes two socket objects of it, asks the kernel for both addresses, and calls a
factory; here whoever calls has a socket object and knows the peer.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IProtocol


def adopt(
    reactor: Any, sock: socket.socket, build: Callable[[], IProtocol], server: type[tcp.Server] = tcp.Server
) -> None:
    """Give `sock` to a transport (a `server`) of its own, which closes it in the end, and connect what `build` makes to
    it.

    OSError where the other side has gone already: then the socket stays the caller's.
    """
    peer = sock.getpeername()
    protocol = build()
    transport = server(sock, protocol, peer, None, peer[1], reactor)  # type: ignore[arg-type]  # it takes None
    transport.repstr = f"<adopted from {peer[0]}>"
    protocol.makeConnection(transport)
