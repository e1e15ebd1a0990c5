"""A client that may be turned away. That is told by a reset as well as by an end, and a reset can come at any step: it
may be there before connect has returned.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

from attrs import frozen

_PATIENCE = 60.0


@frozen
class Heard:
    """`data`: all that came back; `reset`: whether that ended by a reset; `ends`: what an access line says of both."""

    data: bytes
    reset: bool
    ends: dict[str, Any]


def knock(port: int, data: bytes = b"", source: str = "127.0.0.1") -> Heard:
    """Sends `data`, does not end its side, and listens until the peer ends."""
    reset, heard = False, bytearray()
    with socket.socket() as sock:
        sock.settimeout(_PATIENCE)
        sock.bind((source, 0))
        ends = {"peer": list(sock.getsockname()), "local": ["127.0.0.1", port]}
        try:
            sock.connect(("127.0.0.1", port))
            sock.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            reset = True  # what the peer said before is still there
        try:
            while some := sock.recv(65536):
                heard += some
        except ConnectionResetError:
            reset = True
    return Heard(bytes(heard), reset, ends)


def dribble(sock: socket.socket, pause: float = 0.1) -> bytes:
    """All that comes back while an octet is said after each `pause`, until the peer ends; AssertionError if it does
    not.
    """
    sock.settimeout(pause)
    deadline = time.monotonic() + _PATIENCE
    heard = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while time.monotonic() < deadline:
            try:
                some = sock.recv(65536)
            except TimeoutError:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    sock.sendall(b"x")  # it may have ended by now; what it said before is still there
                continue
            if not some:
                return bytes(heard)
            heard += some
        raise AssertionError(f"it has not ended: {bytes(heard)!r}")
    return bytes(heard)
