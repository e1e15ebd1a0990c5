"""What is said to a proxy so that it leads to a target: the same contract for SOCKS 5 and HTTP CONNECT."""

from __future__ import annotations

from typing import Literal, Protocol

from dcrouter.wire.http1.connect import Connect
from dcrouter.wire.socks5 import Socks5

Scheme = Literal["socks5", "http", "https"]
"""Of a proxy's URL; `https` is CONNECT inside of TLS, which is not said here."""


class Handshake(Protocol):
    """See wire/socks5."""

    opening: bytes
    wants: int
    asked: bool

    def feed(self, data: bytes) -> bytes | None: ...


def handshake(scheme: Scheme, host: str, port: int, user: str | None, password: str) -> Handshake:
    """For one connection to `host`:`port`. ValueError where it cannot be said."""
    kind = Socks5 if scheme == "socks5" else Connect
    return kind(host, port, user, password)
