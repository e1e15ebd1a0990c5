"""An engine that a test turns by hand, with real sockets: nothing happens between two turns, so no luck."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.testing import MemoryReactorClock

from dcrouter.net.engine import Engine
from dcrouter.net.reactor import Leader

T = TypeVar("T")

DEADLINE = 60.0
PAUSE = 0.001
"""Seconds that a turn waits for something to happen."""


class HandTurned(MemoryReactorClock):
    """Time and timers; nobody waits."""

    def follow(self, leader: Leader | None) -> int:
        return -1


class Loop:
    """`turn` runs the engine once; `until` as often as it takes for a fact to become true, or fails the test."""

    def __init__(self, engine: Engine | None = None, reactor: Any = None) -> None:
        self.reactor: Any = reactor or HandTurned()
        self.clock = 1000.0
        self.engine = engine or Engine(self.reactor, lambda: self.clock)

    def start(self) -> None:
        self.engine.start()

    def turn(self) -> None:
        self.engine.work(lambda: PAUSE)
        self.reactor.advance(0)

    def until(self, fact: Callable[..., T | None]) -> T:
        """Gives the first true value of `fact`, which is called without arguments; AssertionError after DEADLINE."""
        end = time.monotonic() + DEADLINE
        while not (value := fact()):
            if time.monotonic() > end:
                raise AssertionError(f"not true within {DEADLINE} s")
            self.turn()
        return value

    def pass_time(self, seconds: float) -> None:
        """Let the deadlines of `seconds` come, a tick at a time."""
        for _ in range(int(seconds / 0.1) + 2):
            self.clock += 0.1
            self.reactor.advance(0.1)
            self.engine.work(lambda: PAUSE)

    def received(self, sock: socket.socket, size: int = 1 << 16) -> bytes:
        """What `sock` has received once there is something; b"" at its end."""
        sock.setblocking(False)
        result: list[bytes] = []

        def some() -> bool:
            try:
                result.append(sock.recv(size))
            except BlockingIOError:
                return False
            return True

        self.until(some)
        return result[0]

    def received_all(self, sock: socket.socket, size: int | None = None) -> bytes:
        """Everything up to the end, or up to `size` bytes."""
        data = bytearray()
        while size is None or len(data) < size:
            some = self.received(sock)
            if not some:
                break
            data += some
        return bytes(data)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """(client, server's side) of one connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    server.setblocking(False)
    return client, server
