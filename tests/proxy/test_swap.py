"""Another plan for an edge at work, in this process."""

from __future__ import annotations

import gc
import socket
import sys
import weakref
from typing import Any

from attrs import evolve

from dcrouter.config.actions import Respond
from dcrouter.config.routes import Defaults, Route, Timeouts
from dcrouter.config.security import Security
from dcrouter.net.engine import Engine
from dcrouter.net.slices import finished
from dcrouter.proxy.edge import Edge
from dcrouter.proxy.plan import Plan
from tests.support.edge import Backend, EdgeTest, echo, free_listener, route

PAGE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class SwapTests(EdgeTest):
    def plan(self, *routes: Route, **keys: Any) -> Plan:
        return finished(self.edge.prepare(evolve(self.edge.plan.config, routes=routes, **keys), {}))

    def swap(self, plan: Plan, **keys: Any) -> None:
        released = self.edge.reload(plan, self.chooser, self.edge.observe, **keys)
        done: list[object] = []
        released.addCallback(done.append)
        self.loop.until(lambda: done)

    def test_sessions_go_on_and_new_ones_meet_the_new_routes(self) -> None:
        """The one that lives keeps its target; both are counted for the route of their name."""
        old, new = Backend(self, echo), Backend(self, echo)
        port = self.port()
        edge = self.open(route("web", port, old.target))
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            self.assertEqual(self.client(lambda: talk(client, b"one")), b"one")
            self.swap(self.plan(route("web", port, new.target)))
            self.assertEqual(self.client(lambda: talk(client, b"two")), b"two")
            self.assertEqual((old.connections, new.connections), (1, 0))
            with socket.create_connection(("127.0.0.1", port), 30) as other:
                self.assertEqual(self.client(lambda: talk(other, b"three")), b"three")
            self.event()
        self.event()
        self.assertEqual((old.connections, new.connections), (1, 1))
        status = edge.status()["routes"]["web"]
        self.assertEqual((status["connections"], status["active"]), (2, 0))
        self.assertEqual((status["bytes_in"], status["ends"]), (11, {"done": 2}))

    def test_a_range_of_ports_costs_each_port_the_same(self) -> None:
        """What is done once for each new port is not done for each pair of them: 10 000 held everybody up for 10 s."""
        port = self.port()
        edge = self.open(route("page", port, Respond()))
        calls: dict[int, int] = {}
        for count in (50, 200):
            opened = [free_listener() for _ in range(count)]
            ports = {sock.getsockname()[1] for sock in opened} | {port}
            routes = [route(f"page-{number}", number, Respond()) for number in ports]
            plan = self.plan(*routes)
            unused = {one.bound for one in edge._listeners if one.port not in ports}

            def counted(frame: object, event: str, of: object, count: int = count) -> None:
                calls[count] = calls.get(count, 0) + (event == "call")

            sys.setprofile(counted)
            try:
                self.swap(plan, opened=opened, unused=unused)
            finally:
                sys.setprofile(None)
        self.assertLess(calls[200], 8 * calls[50])

    def test_who_has_knocked_at_a_port_that_goes_is_served(self) -> None:
        """Connections that the kernel has taken are accepted before the port is closed."""
        port = self.port()
        edge = self.open(route("page", port, Respond(body="old page")))
        bound = edge._listeners[0].bound
        clients = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(100)]
        for client in clients:
            client.sendall(PAGE)
        self.swap(self.plan(), unused={bound})
        answers = self.client(lambda: [client.recv(1000) for client in clients])
        self.assertTrue(all(b"old page" in answer for answer in answers))
        for client in clients:
            client.close()
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port), 5)

    def test_new_listeners_begin_at_once(self) -> None:
        """With the routes of the new plan."""
        self.port()
        self.open()
        listener = free_listener()
        port = listener.getsockname()[1]
        self.swap(self.plan(route("page", port, Respond(body="there"))), opened=[listener])
        self.assertIn(b"there", self.ask(port, PAGE))

    def test_a_limit_that_is_new_counts_who_is_there(self) -> None:
        """Of the route, and of all routes together."""
        backend = Backend(self, echo)
        port = self.port()
        self.open(route("web", port, backend.target))
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            self.assertEqual(self.client(lambda: talk(client, b"in")), b"in")
            plain = route("web", port, backend.target)
            limited = evolve(plain, security=evolve(plain.security, max_connections=1))
            self.swap(self.plan(limited))
            self.assertTrue(self.is_reset(port))
            self.swap(self.plan(plain, defaults=Defaults(security=Security(max_connections=1))))
            self.assertTrue(self.is_reset(port))
            self.swap(self.plan(plain, defaults=Defaults()))
            self.assertEqual(self.ask_once(port), b"in")

    def ask_once(self, port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            return self.client(lambda: talk(client, b"in"))

    def test_timeouts_of_a_session_are_those_it_began_with(self) -> None:
        """A plan with an idle timeout of a moment does not touch who is there."""
        backend = Backend(self, echo)
        port = self.port()
        self.open(route("web", port, backend.target))
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            self.assertEqual(self.client(lambda: talk(client, b"in")), b"in")
            self.swap(self.plan(route("web", port, backend.target, timeouts=Timeouts(idle=1.0))))
            with socket.create_connection(("127.0.0.1", port), 30) as brief:
                self.assertEqual(self.client(lambda: talk(brief, b"in")), b"in")
                self.loop.until(lambda: self.loop.reactor.advance(0.1) or self.events)
                self.assertEqual(self.event().reason, "idle timeout")
            self.assertEqual(self.client(lambda: talk(client, b"still")), b"still")

    def test_services_of_the_new_plan_begin_before_those_of_the_old_one_end(self) -> None:
        """What both want is never let go of; at the end of the edge all have ended."""
        heard: list[str] = []

        class Noting:
            def __init__(self, name: str) -> None:
                self.name = name

            def begin(self, engine: Engine) -> None:
                heard.append(f"{self.name} begins")

            def end(self) -> None:
                heard.append(f"{self.name} ends")

        self.open()
        for name in ("one", "two"):
            plan = self.plan()
            plan.services.append(Noting(name))
            self.swap(plan)
        self.edge.stop()
        self.assertEqual(heard, ["one begins", "two begins", "one ends", "two ends"])

    def test_a_plan_that_is_out_of_use_is_gone(self) -> None:
        """By itself, without the collector: what lives long is frozen for that, and would stay for ever."""
        backend = Backend(self, echo)
        port, page = self.port(), self.port()
        self.open(route("web", port, backend.target), route("page", page, Respond(body="x")))
        self.ask_once(port)
        self.event()
        self.assertIn(b"x", self.ask(page, PAGE))
        self.event()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        counters = weakref.ref(self.edge.plan.routes[1].counters)  # which only the route holds
        self.swap(self.plan(route("web", port, backend.target)))
        self.assertIsNone(counters())

    def test_connections_are_shown_and_ended(self) -> None:
        """Page by page in the order in which they came; one that is ended has its line in the log."""
        backend = Backend(self, echo)
        port = self.port()
        edge: Edge = self.open(route("web", port, backend.target))
        clients = []
        for _ in range(3):
            clients.append(socket.create_connection(("127.0.0.1", port), 30))
            self.addCleanup(clients[-1].close)
            self.assertEqual(self.client(lambda: talk(clients[-1], b"12345")), b"12345")
        first = edge.connections(None, 2)
        self.assertEqual(len(first["connections"]), 2)
        second = edge.connections(first["next"], 2)
        self.assertIsNone(second["next"])
        shown = [*first["connections"], *second["connections"]]
        self.assertEqual([one["peer"] for one in shown], [client.getsockname() for client in clients])
        self.assertEqual((shown[0]["bytes_in"], shown[0]["bytes_out"], shown[0]["phase"]), (5, 5, "relay"))
        self.assertEqual(edge.kill("nobody"), 0)
        self.assertEqual(edge.kill(shown[1]["session"]), 1)
        event = self.event()
        self.assertEqual((event.session, event.reason), (shown[1]["session"], "ended by the operator"))
        self.assertEqual((event.termination, edge.kill(shown[1]["session"])), ("router:relay", 0))
        self.assertEqual(len(edge.connections(None, 500)["connections"]), 2)


def talk(sock: socket.socket, data: bytes) -> bytes:
    sock.sendall(data)
    got = b""
    while len(got) < len(data):
        got += sock.recv(100)
    return got
