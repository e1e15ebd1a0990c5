"""`handler` routes in an edge in this process: what is handed over, and who waits while nobody takes it."""

from __future__ import annotations

import socket
from typing import Any

from dcrouter.config.actions import Handler
from dcrouter.config.routes import RouteTls, Timeouts
from dcrouter.config.security import MinRate, RouteSecurity
from dcrouter.net.channel import Channel
from dcrouter.proxy import taker
from tests.support.edge import EdgeTest, route
from tests.support.hello import client_hello

HANDLER = Handler(factory="hooks:Echo")


class HandlerTests(EdgeTest):
    def meet(self) -> Channel:
        """The process of the handlers is there: what it is sent is in `self.taken`."""
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.taken: list[tuple[dict[str, Any], socket.socket]] = []
        reactor = self.loop.reactor
        self.sender = Channel(reactor, ours, lambda kind, fields, fds: None, lambda reason: None)
        self.receiver = Channel(reactor, theirs, self._take, lambda reason: None)
        self.addCleanup(self.sender.close)
        self.addCleanup(self.receiver.close)
        self.edge.met("handlers", self.sender)
        return self.sender

    def _take(self, kind: str, fields: dict[str, Any], fds: list[int]) -> None:
        self.assertEqual(kind, "connection")
        sock = socket.socket(fileno=fds[0])
        self.addCleanup(sock.close)
        self.taken.append((fields, sock))

    def connect(self, port: int) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port), 30)
        self.addCleanup(client.close)
        return client

    def receive(self, count: int) -> None:
        """Until so many have been taken."""

        def all_there() -> bool:
            self.loop.reactor.advance(0.05)
            if self.sender.waiting:
                self.sender.doWrite()
            self.receiver.doRead()
            return len(self.taken) == count

        self.loop.until(all_there)

    def test_a_connection_is_handed_over_whole(self) -> None:
        """With its facts, the floor of its route, and whatever it has said; limits count it until it has ended."""
        port = self.port()
        security = RouteSecurity(max_connections=1, min_rate=MinRate(bytes=10, over=5.0))
        tls = RouteTls(mode="terminate")
        self.open(route("mine", port, HANDLER, domains=("a.example.test",), tls=tls, security=security))
        self.meet()
        client = self.connect(port)
        hello = client_hello("a.example.test")
        client.sendall(hello)
        self.receive(1)
        fields, sock = self.taken[0]
        self.assertEqual((fields["route"], fields["sni"]), ("mine", "a.example.test"))
        self.assertEqual(
            (tuple(fields["peer"]), fields["min_rate"]), (client.getsockname(), {"bytes": 10, "over": 5.0})
        )
        self.assertEqual(sock.recv(65536), hello)
        self.assertEqual(self.events, [])
        self.assertEqual(self.edge.status()["routes"]["mine"]["active"], 1)
        second = self.connect(port)
        second.sendall(hello)
        self.assertEqual(self.event().reason, "max_connections")
        self.edge.handlers.closed(fields["session"])
        self.assertEqual(self.edge.status()["routes"]["mine"]["active"], 0)

    def test_who_comes_while_nobody_is_there_waits(self) -> None:
        """In the order of coming; one who goes meanwhile is not handed over."""
        port = self.port()
        self.open(route("mine", port, HANDLER))
        clients = [self.connect(port) for _ in range(3)]
        self.loop.until(lambda: self.edge.accepted == 3)
        clients[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        clients[1].close()
        self.assertEqual(self.event().reason, "gone before the handlers process was free")
        self.meet()
        self.receive(2)
        peers = [tuple(fields["peer"]) for fields, _ in self.taken]
        self.assertEqual(peers, [clients[0].getsockname(), clients[2].getsockname()])

    def test_they_wait_as_long_as_for_a_target(self) -> None:
        port = self.port()
        self.open(route("mine", port, HANDLER, timeouts=Timeouts(connect=0.3)))
        client = self.connect(port)

        def over() -> bool:
            self.loop.reactor.advance(0.1)
            return bool(self.events)

        self.loop.until(over)
        event = self.event()
        self.assertEqual((event.reason, event.route), ("the handlers process is not there", "mine"))
        self.assertEqual(self.loop.received_all(client), b"")

    def test_a_burst_is_held_back_until_there_is_room(self) -> None:
        """Nobody is refused, and no more than so many are on their way."""
        self.patch(taker, "HANDOVERS", 2)
        port = self.port()
        self.open(route("mine", port, HANDLER))
        self.meet()
        clients = [self.connect(port) for _ in range(40)]
        self.loop.until(lambda: self.edge.accepted == 40)
        self.assertLess(len(self.edge.handlers), 40)
        self.receive(40)
        self.assertEqual([tuple(fields["peer"]) for fields, _ in self.taken], [one.getsockname() for one in clients])
        self.assertEqual(self.events, [])

    def test_what_a_process_had_that_dies_is_told(self) -> None:
        """A line for each, and the counters are free again."""
        port = self.port()
        self.open(route("mine", port, HANDLER))
        self.meet()
        self.connect(port), self.connect(port)
        self.receive(2)
        self.edge.met("handlers", None)
        events = [self.event(), self.event()]
        self.assertEqual({event.reason for event in events}, {"the handlers process has died"})
        self.assertEqual({event.termination for event in events}, {"router:handler"})
        self.assertEqual(self.edge.status()["routes"]["mine"]["active"], 0)

    def test_what_outlived_the_last_edge_is_counted(self) -> None:
        """Once, whoever tells of it, until it ends."""
        port = self.port()
        self.open(route("mine", port, HANDLER))
        self.meet()
        for _ in range(2):
            self.edge.living("handlers", "before-1", "192.0.2.7", "mine")
        status = self.edge.status()
        self.assertEqual((status["handed_over"], status["routes"]["mine"]["active"]), (1, 1))
        self.edge.handlers.closed("before-1")
        status = self.edge.status()
        self.assertEqual((status["handed_over"], status["routes"]["mine"]["active"]), (0, 0))
