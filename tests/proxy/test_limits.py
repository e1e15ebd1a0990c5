"""Who is turned away, how, and what it costs: lists, counters, rates, on plain and on mail ports, at the door or behind
a PROXY header.
"""

from __future__ import annotations

import socket
import time
from ipaddress import ip_network
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.actions import MailHandover, Respond
from dcrouter.config.mail import Email
from dcrouter.config.rates import Rate
from dcrouter.config.routes import Defaults, ProxyProtocol
from dcrouter.config.security import MinRate, Security
from dcrouter.net.limits import MAX_KEYS
from dcrouter.proxy.admission import Admission
from dcrouter.proxy.state import Present, Recent, State
from dcrouter.wire.proxyheader import build_v2
from tests.support.edge import Backend, EdgeTest, echo, route, says

SELDOM = Rate(rate=(1, 3600.0))
DESTINATION = ("198.51.100.1", 443)


class AdmissionTests(SynchronousTestCase):
    def test_a_flood_from_many_addresses_is_remembered_within_bounds(self) -> None:
        """However many addresses come, and whether they are let in: no more buckets than the bound."""
        recent = Recent()
        admission = Admission(Security(connection_rate_per_ip=SELDOM), Present(), recent)
        for number in range(3 * MAX_KEYS):
            address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            self.assertIsNone(admission.enter(address))
            admission.leave(address)
        self.assertEqual(len(recent.memory), MAX_KEYS)
        self.assertEqual(admission.enter(address), "connection_rate_per_ip")
        self.assertEqual(len(recent.memory), MAX_KEYS)

    def test_an_ipv6_client_is_its_network(self) -> None:
        """Counters and rates count IPv6 by /64."""
        for limits in (Security(connection_rate_per_ip=SELDOM), Security(max_connections_per_ip=1)):
            admission = Admission(limits, Present())
            self.assertIsNone(admission.enter("2001:db8::1"))
            self.assertIsNotNone(admission.enter("2001:db8::2"))
            self.assertIsNone(admission.enter("2001:db8:0:1::1"))

    def test_what_is_over_another_limit_takes_nothing_of_the_rate(self) -> None:
        """Only who is let in counts."""
        security = Security(connection_rate_per_ip=Rate(rate=(2, 3600.0)), max_connections=1)
        admission = Admission(security, Present())
        self.assertIsNone(admission.enter("192.0.2.1"))
        for _ in range(5):
            self.assertEqual(admission.enter("192.0.2.1"), "max_connections")
        admission.leave("192.0.2.1")
        self.assertIsNone(admission.enter("192.0.2.1"))
        admission.leave("192.0.2.1")
        self.assertEqual(admission.enter("192.0.2.1"), "connection_rate_per_ip")

    def test_rates_survive_a_reload_by_name(self) -> None:
        """Another table, even with another rate, remembers who came under the one before."""
        state = State()
        before = Admission.kept(Security(connection_rate_per_ip=SELDOM), state, "route", "web")
        self.assertIsNone(before.enter("192.0.2.1"))
        twice = Security(connection_rate_per_ip=Rate(rate=(2, 3600.0)))
        after = Admission.kept(twice, state, "route", "web")
        self.assertEqual(after.present.connections, 1)
        self.assertEqual(after.enter("192.0.2.1"), "connection_rate_per_ip")
        self.assertIsNone(Admission.kept(twice, state, "route", "other").enter("192.0.2.1"))


class DoorTests(EdgeTest):
    def test_who_comes_too_often_is_reset_until_the_rate_allows_it(self) -> None:
        """A client that never stops knocking is let in again in time: refused ones are not counted."""
        backend = Backend(self, says(b"in"))
        port = self.port()
        security = Security(connection_rate_per_ip=Rate(rate=(1, 1.0), burst=2))
        self.open(route("web", port, backend.target, security=security))
        self.assertEqual([self.ask(port, b"x"), self.ask(port, b"x")], [b"in", b"in"])
        self.loop.until(lambda: self.is_reset(port, b"x"))
        self.loop.until(lambda: not self.is_reset(port, b"x"))
        refused = self.edge.status()["refused"]
        self.loop.until(lambda: len(self.events) == self.edge.accepted)
        reasons = [event.reason for event in self.events]
        self.assertEqual(refused, {"connection_rate_per_ip": reasons.count("connection_rate_per_ip")})

    def test_a_connection_that_its_route_refuses_costs_nothing_of_the_rate_of_all(self) -> None:
        """defaults.security gives its token back, whether the route is known at the door or later."""
        backend = Backend(self, says(b"in"))
        blocked, named, open_ = self.port(), self.port(), self.port()
        nobody = Security(block=(ip_network("127.0.0.1/32"),))
        self.open(
            route("blocked", blocked, backend.target, security=nobody),
            route("named", named, Respond(), domains=("a.example",), security=nobody),
            route("open", open_, backend.target),
            defaults=Defaults(security=Security(connection_rate_per_ip=SELDOM)),
        )
        for _ in range(3):
            self.assertTrue(self.is_reset(blocked))
            self.assertTrue(self.is_reset(named, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"))
        self.assertEqual(self.ask(open_, b"x"), b"in")
        self.assertTrue(self.is_reset(open_))
        self.assertEqual(self.edge.status()["refused"], {"blocked": 6, "connection_rate_per_ip": 1})

    def test_who_no_route_of_a_port_would_let_in_is_not_waited_for(self) -> None:
        """The lists of all its routes together: outside of them nobody can have a route, whatever they say."""
        port = self.port()
        self.open(
            *(
                route(
                    name, port, Respond(), domains=(f"{name}.example",), security=Security(allow=(ip_network(network),))
                )
                for name, network in (("a", "127.0.0.2/32"), ("b", "127.0.0.3/32"))
            )
        )
        self.assertTrue(self.is_reset(port))
        event = self.event()
        self.assertEqual((event.reason, event.route, event.phases), ("not allowed", None, {}))
        self.assertEqual(event.termination, "router:accept")
        for host, source, answered in (("a", "127.0.0.2", True), ("b", "127.0.0.2", False), ("b", "127.0.0.3", True)):
            request = b"GET / HTTP/1.1\r\nHost: %s.example\r\nConnection: close\r\n\r\n" % host.encode()
            if answered:
                self.assertTrue(self.ask(port, request, source).startswith(b"HTTP/1.1 200"))
            else:
                self.assertTrue(self.is_reset(port, request, source))

    def test_a_refused_connection_gives_everything_back(self) -> None:
        """Counters of all routes and of the one are as before, and no descriptor stays."""
        backend = Backend(self, echo)
        port = self.port()
        self.open(
            route("web", port, backend.target, security=Security(max_connections_per_ip=1)),
            defaults=Defaults(security=Security(max_connections=2)),
        )
        first = socket.create_connection(("127.0.0.1", port), 30)
        self.addCleanup(first.close)
        first.sendall(b"x")
        self.assertEqual(self.loop.received(first), b"x")
        for _ in range(20):
            self.assertTrue(self.is_reset(port))
        self.assertEqual(self.edge.status()["active"], 1)
        self.assertEqual(self.edge.plan.web.present.connections, 1)
        second = socket.create_connection(("127.0.0.1", port), 30, ("127.0.0.2", 0))
        self.addCleanup(second.close)
        second.sendall(b"y")
        self.assertEqual(self.loop.received(second), b"y")

    def test_behind_a_header_the_client_is_judged_after_it(self) -> None:
        """The proxy itself is never over a limit of its clients; each of them is, by its own address."""
        backend = Backend(self, says(b"in"))
        port = self.port()
        self.open(
            route("web", port, backend.target, security=Security(block=(ip_network("203.0.113.9/32"),))),
            defaults=Defaults(security=Security(connection_rate_per_ip=SELDOM)),
            proxy_protocol=(ProxyProtocol(from_=(ip_network("127.0.0.2/32"),), timeout=5.0),),
        )

        def through(client: str) -> bytes:
            return self.ask(port, build_v2((client, 4711), DESTINATION) + b"x", "127.0.0.2")

        self.assertEqual([through("203.0.113.1"), through("203.0.113.2")], [b"in", b"in"])
        self.assertEqual([through("203.0.113.1"), through("203.0.113.9")], [b"", b""])
        self.assertEqual([event.reason for event in self.events][-2:], ["connection_rate_per_ip", "blocked"])


class MailDoorTests(EdgeTest):
    def test_mail_clients_are_told_421_and_those_who_want_tls_are_reset(self) -> None:
        """At once, at the door; behind a PROXY header, after it."""
        smtp, smtps = self.port(), self.port()
        security = Security(block=(ip_network("127.0.0.3/32"), ip_network("203.0.113.9/32")))
        keys: dict[str, Any] = {
            "email": Email(hostname="mx.example", ports=(), security=security),
            "proxy_protocol": (ProxyProtocol(from_=(ip_network("127.0.0.2/32"),), timeout=5.0),),
        }
        self.open(
            route("smtp", smtp, MailHandover(kind="smtp"), security=security),
            route("smtps", smtps, MailHandover(kind="smtps"), security=security),
            **keys,
        )
        for listener in self.edge._listeners:
            listener.start()
        said = self.ask(smtp, b"", "127.0.0.3")
        self.assertTrue(said.startswith(b"421 4.7.0 mx.example ") and said.endswith(b"\r\n"), said)
        said = self.ask(smtp, build_v2(("203.0.113.9", 4711), DESTINATION), "127.0.0.2")
        self.assertTrue(said.startswith(b"421 4.7.0 mx.example "), said)
        self.assertTrue(self.is_reset(smtps, b"", "127.0.0.3"))
        self.assertEqual(self.edge.status()["refused"], {"blocked": 3})


class MinRateTests(EdgeTest):
    def test_a_dribbler_is_ended_and_a_steady_client_is_not(self) -> None:
        """Bytes of both directions count; the log says why."""
        backend = Backend(self, echo)
        port = self.port()
        security = Security(min_rate=MinRate(bytes=1000, over=1.0))
        self.open(route("web", port, backend.target, security=security))
        dribbler, steady = (socket.create_connection(("127.0.0.1", port), 30) for _ in range(2))
        self.addCleanup(dribbler.close)
        self.addCleanup(steady.close)

        said = 0.0

        def ended() -> bool:
            nonlocal said
            self.loop.reactor.advance(0.1)
            steady.sendall(bytes(500))
            if not self.events and time.monotonic() - said > 0.05:
                said = time.monotonic()
                dribbler.sendall(b"x")
            return bool(self.events) and self.loop.received(steady) != b""

        self.loop.until(ended)
        event = self.event()
        self.assertEqual((event.reason, event.ended_by), ("min_rate", "router"))
        self.assertEqual(event.peer, dribbler.getsockname())
        self.assertEqual(self.edge.status()["active"], 1)
