"""Ports that are a test's own: nobody else is given one while it is held, be it to listen or to connect from."""

from __future__ import annotations

import socket
from unittest import TestCase


class Reserved:
    """A free port that nobody else is given while this lives: bound on every address, not listening, and shared by
    SO_REUSEADDR. Who connects is refused, until somebody binds it with that option and listens.
    """

    def __init__(self) -> None:
        try:
            self._sock = _bound(socket.AF_INET6, "::")
        except OSError:  # a host without IPv6
            self._sock = _bound(socket.AF_INET, "0.0.0.0")
        self.port: int = self._sock.getsockname()[1]

    def close(self) -> None:
        self._sock.close()


def _bound(family: int, address: str) -> socket.socket:
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((address, 0))
    except OSError:
        sock.close()
        raise
    return sock


def reserved(case: TestCase) -> int:
    """A port that is kept until the end of the test: closed, unless somebody listens there by intent."""
    one = Reserved()
    case.addCleanup(one.close)
    return one.port


def closed_for_datagrams(case: TestCase) -> int:
    """A port of 127.0.0.1 that answers datagrams with a refusal until the end of the test: connected to nobody."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    case.addCleanup(sock.close)
    sock.bind(("127.0.0.1", 0))
    sock.connect(("127.0.0.1", 9))
    port: int = sock.getsockname()[1]
    return port


def refuses(port: int) -> bool:
    """Whether nobody is let in there: refused, or reset as is who knocks in the moment when the port is closed."""
    try:
        socket.create_connection(("127.0.0.1", port), 30).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False
