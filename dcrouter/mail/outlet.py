"""Bytes out of a connection at once, instead of in the reactor's next round.

A Twisted transport registers for writing, is called, writes, and unregisters: two system calls and a round of the
reactor for each reply. Here a plain socket is sent to directly; what it does not take goes to the transport, and so
does everything after it, so that the order holds. An error is left for the transport to find.
"""

from __future__ import annotations

import socket
from typing import Any


class Outlet:
    """Writes to one connected transport. Make a new one after TLS has started: it then goes through the transport."""

    __slots__ = ("_plain", "_socket", "_transport")

    def __init__(self, transport: Any) -> None:
        handle = transport.getHandle() if hasattr(transport, "getHandle") else None
        plain = isinstance(handle, socket.socket) and not getattr(transport, "TLS", False)
        self._transport = transport
        self._plain: socket.socket | None = handle if plain else None
        self._socket = self._plain

    def through_transport(self) -> socket.socket | None:
        """From now on nothing may overtake what the transport has been given by others. The socket, where it is plain:
        for who writes to it while the transport has nothing to write.
        """
        self._socket = None
        return self._plain

    def write(self, data: bytes) -> None:
        if self._socket is None or self._transport.disconnecting:
            self._transport.write(data)
            return
        try:
            sent = self._socket.send(data)
        except OSError:
            sent = 0
        if sent < len(data):
            self._socket = None
            self._transport.write(data[sent:])
