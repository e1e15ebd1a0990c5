"""Clients that talk before the greeting: no mail server does, programs that only send do. RFC 5321 4.3.1."""

from __future__ import annotations

import socket
from typing import Any

EARLY = b"554 5.5.1 Wait for the greeting (RFC 5321 4.3.1)"


def has_talked(transport: Any) -> bool:
    """Whether octets of the client are here already, unread."""
    try:
        return bool(transport.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False
