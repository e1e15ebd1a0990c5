from __future__ import annotations

import contextlib
import socket
import threading
from ipaddress import ip_address
from typing import Any

from dcrouter.config.actions import Forward
from dcrouter.config.health import Health
from dcrouter.config.routes import Timeouts
from dcrouter.config.targets import Target
from tests.support.edge import Backend, EdgeTest, read_all, route, says
from tests.support.ends import descriptors
from tests.support.hole import Hole
from tests.support.ports import Reserved

PATIENT = Timeouts(connect=60.0)
"""Whoever waits for it fails by the test's own deadline."""


class Server:
    """Answers on one address with a word that tells which; `peers`: who has come."""

    def __init__(self, test: EdgeTest, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.create_server((address, port), family=family)
        self.peers: list[str] = []
        test.addCleanup(self._close)
        threading.Thread(target=self._serve, args=(address,), daemon=True).start()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _serve(self, address: str) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, peer = self.listener.accept()
                self.peers.append(peer[0])
                with sock, contextlib.suppress(OSError):
                    sock.sendall(address.encode())


class ReachTest(EdgeTest):
    def setUp(self) -> None:
        super().setUp()
        reserved = Reserved()
        self.addCleanup(reserved.close)
        self.there = reserved.port

    def forward(self, addresses: list[str], timeouts: Timeouts = PATIENT, **keys: Any) -> int:
        """A route to app.test, which has these addresses, on a port of its own."""
        port = self.port()
        action = Forward(targets=(Target(host="app.test", port=self.there),), **keys)
        self.open(route("web", port, action, timeouts=timeouts))
        self.edge.addresses.update({"app.test": addresses})
        turn, reactor = self.loop.turn, self.loop.reactor

        def turn_on() -> None:
            reactor.advance(0.1)
            turn()

        self.patch(self.loop, "turn", turn_on)
        return port

    def answer(self, port: int) -> bytes:
        return self.ask(port, b"")


class RaceTests(ReachTest):
    def test_an_address_that_answers_nobody_holds_nobody_up(self) -> None:
        """The next one is tried beside it after a moment, and the event names the one that was reached."""
        Hole(self, "127.0.0.2", self.there)
        Server(self, "127.0.0.3", self.there)
        port = self.forward(["127.0.0.2", "127.0.0.3"])
        before = descriptors()
        for _ in range(3):
            self.assertEqual(self.answer(port), b"127.0.0.3")
            event = self.event()
            self.assertEqual((event.target, event.reason), (f"127.0.0.3:{self.there}", "closed"))
        self.loop.until(lambda: not descriptors() - before)
        self.assertEqual(self.edge.failed_connects, {})

    def test_an_address_that_refuses_is_left_at_once(self) -> None:
        """Whatever the family."""
        Server(self, "127.0.0.3", self.there)
        port = self.forward(["127.0.0.2", "::1", "127.0.0.3"])
        self.assertEqual(self.answer(port), b"127.0.0.3")

    def test_the_first_address_is_taken_where_it_answers(self) -> None:
        """Without a word to the others."""
        Server(self, "127.0.0.2", self.there)
        other = Server(self, "127.0.0.3", self.there)
        port = self.forward(["127.0.0.2", "127.0.0.3"])
        for _ in range(5):
            self.assertEqual(self.answer(port), b"127.0.0.2")
        self.assertEqual(other.peers, [])

    def test_a_slow_address_may_still_win(self) -> None:
        """One that answers after the others have failed: what has begun goes on."""
        hole = Hole(self, "127.0.0.2", self.there)
        port = self.forward(["127.0.0.2", "127.0.0.3"])

        def drain() -> None:
            for _ in range(10):
                sock, _ = hole.listener.accept()
                with contextlib.suppress(OSError):
                    sock.sendall(b"late")
                sock.close()

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                threading.Thread(target=drain, daemon=True).start()
                return read_all(sock)

        self.assertEqual(self.client(run), b"late")
        self.assertEqual(self.event().target, f"127.0.0.2:{self.there}")

    def test_where_none_answers_the_reasons_are_told(self) -> None:
        """Each once; and silence is a timeout of all together."""
        port = self.forward(["127.0.0.2", "127.0.0.3"])
        self.assertEqual(self.answer(port), b"")
        self.assertEqual(self.event().reason, f"127.0.0.2:{self.there}: Connection refused")
        self.edge.stop()
        self.listeners = []
        Hole(self, "127.0.0.2", self.there)
        Hole(self, "127.0.0.3", self.there)
        port = self.forward(["127.0.0.2", "127.0.0.3"], Timeouts(connect=0.6))
        before = descriptors()
        self.assertEqual(self.answer(port), b"")
        self.assertEqual(self.event().reason, f"127.0.0.2:{self.there}: connect timeout")
        self.loop.until(lambda: not descriptors() - before)

    def test_a_client_that_leaves_ends_the_race(self) -> None:
        """Nobody connects for nobody."""
        Hole(self, "127.0.0.2", self.there)
        Hole(self, "127.0.0.3", self.there)
        port = self.forward(["127.0.0.2", "127.0.0.3"])
        before = descriptors()
        with socket.create_connection(("127.0.0.1", port), 30) as sock:
            self.loop.until(lambda: self.edge.status()["active"] == 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        event = self.event()
        self.assertEqual((event.ended_by, event.reason), ("client", "gone before the target answered"))
        self.loop.until(lambda: not descriptors() - before)

    def test_connects_under_way_count_as_connections(self) -> None:
        """Else `least-connections` would send the next clients to whoever keeps the first ones waiting."""
        Hole(self, "127.0.0.2", self.there)
        Server(self, "127.0.0.3", self.there)
        port = self.port()
        targets = tuple(Target(host=host, port=self.there) for host in ("127.0.0.2", "127.0.0.3"))
        action = Forward(targets=targets, balance="least-connections")
        self.open(route("web", port, action, timeouts=PATIENT))
        hole, server = (f"127.0.0.{last}:{self.there}" for last in (2, 3))

        def count(label: str, what: str) -> int:
            return int(self.edge.status()["targets"]["web"][label][what])

        with socket.create_connection(("127.0.0.1", port), 30) as waiting:
            self.loop.until(lambda: count(hole, "active") == 1)
            for _ in range(6):
                self.assertEqual(self.answer(port), b"127.0.0.3")
                self.loop.until(lambda: count(server, "active") == 0)
            waiting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.loop.until(lambda: count(hole, "active") == 0)
        self.assertEqual(count(hole, "connections"), 0)

    def test_new_addresses_are_used_from_the_next_connection_on(self) -> None:
        """And old ones no more."""
        Server(self, "127.0.0.2", self.there)
        Server(self, "127.0.0.3", self.there)
        port = self.forward(["127.0.0.2"])
        self.assertEqual(self.answer(port), b"127.0.0.2")
        self.edge.addresses.update({"app.test": ["127.0.0.3"]})
        self.assertEqual(self.answer(port), b"127.0.0.3")


class SourceTests(ReachTest):
    def test_targets_see_the_source(self) -> None:
        """Checks come from there too."""
        server = Server(self, "127.0.0.2", self.there)
        health = Health(type="tcp", interval=0.1, timeout=20.0)
        port = self.forward(["127.0.0.2"], source=ip_address("127.0.0.77"), health=health)
        self.assertEqual(self.answer(port), b"127.0.0.2")
        self.loop.until(lambda: len(server.peers) > 2)
        self.assertEqual(set(server.peers), {"127.0.0.77"})

    def test_only_addresses_of_its_family_are_tried(self) -> None:
        """Where there are none, that is the reason."""
        Server(self, "127.0.0.2", self.there)
        port = self.forward(["::1", "127.0.0.2"], source=ip_address("127.0.0.77"))
        self.assertEqual(self.answer(port), b"127.0.0.2")
        self.event()
        self.edge.addresses.update({"app.test": ["::1"]})
        self.assertEqual(self.answer(port), b"")
        self.assertEqual(self.event().reason, f"[::1]:{self.there}: it has no address of the family of `source`")

    def test_an_address_that_this_host_does_not_have(self) -> None:
        """Is a failed connect, as every other, and leaves nothing open."""
        backend = Backend(self, says(b"x"))
        self.there = backend.port
        port = self.forward(["127.0.0.1"], source=ip_address("192.0.2.1"))
        before = descriptors()
        self.assertEqual(self.answer(port), b"")
        self.assertIn("Cannot assign requested address", self.event().reason)
        self.loop.until(lambda: not descriptors() - before)
