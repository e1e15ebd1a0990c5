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

    __slots__ = ("_socket", "_transport")

    def __init__(self, transport: Any) -> None:
        handle = transport.getHandle() if hasattr(transport, "getHandle") else None
        plain = isinstance(handle, socket.socket) and not getattr(transport, "TLS", False)
        self._transport = transport
        self._socket: socket.socket | None = handle if plain else None

    def through_transport(self) -> None:
        """From now on nothing may overtake what the transport has been given by others."""
        self._socket = None

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
