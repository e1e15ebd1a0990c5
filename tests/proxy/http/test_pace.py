"""min_rate on http routes: who is slow, and who only waits."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from dcrouter.config.security import MinRate, RouteSecurity
from tests.support.edge import Backend, EdgeTest, route
from tests.support.threaded import Talk

LEAST = RouteSecurity(min_rate=MinRate(bytes=2000, over=1.0))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def read_to_the_end(sock: socket.socket) -> None:
    while sock.recv(1000):
        pass


class PaceTests(EdgeTest):
    def served(self, talk: Talk) -> int:
        port = self.port()
        target = Backend(self, talk).target
        self.open(route("web", port, target, domains=("a.example",), security=LEAST))
        return port

    def connect(self, port: int, data: bytes) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port), 30)
        self.addCleanup(sock.close)
        sock.sendall(data)
        return sock

    def pass_seconds(self, fact: Callable[[], object]) -> None:
        """Real ones, until `fact`."""

        def looked() -> bool:
            self.loop.reactor.advance(0.1)
            return bool(fact())

        self.loop.until(looked)

    def test_a_body_that_dribbles_ends_the_connection(self) -> None:
        """One byte now and then keeps no connection, neither ours nor the target's."""
        port = self.served(read_to_the_end)
        slow = self.connect(port, b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n")

        def ended() -> bool:
            if not self.events:
                slow.sendall(b"x")
            return bool(self.events)

        self.pass_seconds(ended)
        self.assertEqual(self.event().reason, "min_rate")

    def test_who_does_not_read_is_ended(self) -> None:
        """A response that nobody takes is as bad."""

        def big(sock: socket.socket) -> None:
            sock.recv(1000)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            for _ in range(1000):
                sock.sendall(bytes(100000))

        port = self.served(big)
        self.connect(port, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        self.pass_seconds(lambda: self.events)
        self.assertEqual(self.event().reason, "min_rate")

    def test_who_waits_for_the_target_or_between_requests_is_not(self) -> None:
        """The target takes longer than two periods; then the client does. Nobody is blamed."""
        asked: list[socket.socket] = []

        def late(sock: socket.socket) -> None:
            while sock.recv(1000):
                asked.append(sock)
                while asked:
                    time.sleep(0.01)
                sock.sendall(OK)

        port = self.served(late)
        request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
        client = self.connect(port, request)
        self.addCleanup(asked.clear)
        engine = self.edge.engine
        began = engine.now
        self.pass_seconds(lambda: engine.now > began + 2.5)
        asked.clear()
        self.assertTrue(self.loop.received(client).endswith(b"ok"))
        began = engine.now
        self.pass_seconds(lambda: engine.now > began + 2.5)
        client.sendall(request)
        self.loop.until(lambda: asked)
        asked.clear()
        self.assertTrue(self.loop.received(client).endswith(b"ok"))
        self.assertEqual(self.events, [])
