"""An edge with an HTTP route before a backend, and clients that say every byte."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, TypeVar

from tests.support.edge import Backend, EdgeTest, route
from tests.support.threaded import Talk
from tests.support.web import Message, Wire

T = TypeVar("T")


class RelayTest(EdgeTest):
    """One route, `a.example`, to one backend."""

    def relay(self, talk: Talk, **keys: Any) -> int:
        """An edge before a backend that talks so; the port to ask. `timeouts`, `tls`: the route's."""
        self.backend = Backend(self, talk)
        port = self.port()
        of_route = {key: keys.pop(key) for key in ("timeouts", "tls", "protocol") if key in keys}
        self.open(route("web", port, self.backend.target, domains=("a.example",), **of_route), **keys)
        return port

    def talk(self, port: int, run: Callable[[Wire], T]) -> T:
        """`run` with a connection to the edge, in a thread."""

        def work() -> T:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                return run(Wire(sock))

        return self.client(work)

    def ask_one(self, port: int, data: bytes) -> Message:
        """The response to one request."""

        def run(wire: Wire) -> Message:
            wire.send(data)
            return wire.message(to_head=data.startswith(b"HEAD"))

        return self.talk(port, run)

    def again(self) -> None:
        """Ready for another edge in the same test."""
        self.edge.stop()
        self.listeners.clear()
        self.requests.clear()
        self.events.clear()

    def wait_for(self, sock: socket.socket) -> bytes:
        """What comes while time passes."""
        sock.setblocking(False)
        got: list[bytes] = []

        def some() -> bool:
            self.loop.reactor.advance(0.1)
            try:
                got.append(sock.recv(65536))
            except BlockingIOError:
                return False
            return True

        self.loop.until(some)
        return got[0]
