"""Connections that a handler has: what their protocols are told, how their time runs out, how they end."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dcrouter.config.actions import Handler
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Route, RouteTls, Timeouts
from dcrouter.config.security import MinRate, RouteSecurity
from dcrouter.config.tls import ClientAuth, TlsProfile
from dcrouter.events import SessionClosed
from dcrouter.facts import ConnectionFacts
from dcrouter.handlers.sessions import HandlerRoute, Sessions
from dcrouter.tls.chooser import Chooser
from tests.support.certificates import Authority, write
from tests.support.facts import until
from tests.support.loop import tcp_pair

T = TypeVar("T")
PEER = ("203.0.113.7", 4711)


@implementer(IHandshakeListener)
class Echo(Protocol):
    """Gives back what comes, and remembers what it was told."""

    facts = None
    spoken = 0
    reason: Failure | None = None

    def handshakeCompleted(self) -> None:
        self.spoken += 1

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.reason = reason


@implementer(IHalfCloseableProtocol)
class Sum(Protocol):
    """Says how much has come, when all has."""

    count = 0

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)

    def readConnectionLost(self) -> None:
        assert self.transport is not None
        self.transport.write(b"%d" % self.count)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing is missed."""


class Remembering(Factory):
    """Its protocols are in `made`; `addresses` are what it was asked with."""

    noisy = False

    def __init__(self, protocol: type[Protocol] = Echo) -> None:
        self.protocol = protocol
        self.made: list[Any] = []
        self.addresses: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        self.addresses.append(addr)
        made = super().buildProtocol(addr)
        self.made.append(made)
        return made


class SessionCase(TestCase):
    def setUp(self) -> None:
        self.events: list[SessionClosed] = []
        self.chooser = Chooser(TlsProfile())
        self.sessions = Sessions(reactor, self.chooser, self.events.append)
        self.factory = Remembering()
        self.addCleanup(self.end)

    async def end(self) -> None:
        ended = self.sessions.drain()
        self.sessions.abort()
        await ended

    def route(self, tls: RouteTls | None = None, least: MinRate | None = None, **timeouts: float) -> HandlerRoute:
        route = Route(
            name="mine",
            match=Match(ports=(PortRange(start=1, end=1),), domains=("a.example.test",) if tls is not None else None),
            tls=tls,
            action=Handler(factory="hooks:it"),
            security=RouteSecurity(min_rate=least),
            timeouts=Timeouts(**timeouts),
        )
        return HandlerRoute(route, self.factory)

    def taken(self, route: HandlerRoute | None, session: str = "s-1") -> socket.socket:
        """The client of a connection that was handed over, which blocks."""
        client, server = tcp_pair()
        self.addCleanup(client.close)
        client.settimeout(20)
        facts = ConnectionFacts(session, PEER, ("192.0.2.1", 443), time.time())
        facts.route = "mine"
        self.sessions.take(server.detach(), facts, route)
        return client

    async def event(self) -> SessionClosed:
        await until(lambda: self.events)
        return self.events.pop()


def in_thread(act: Callable[..., T], *arguments: Any) -> Deferred[T]:
    return deferToThread(act, *arguments)


class PlainTests(SessionCase):
    async def test_a_protocol_knows_whom_it_speaks_with(self) -> None:
        """By its address, its transport, and its facts; the event tells what it has cost."""
        client = self.taken(self.route())
        client.sendall(b"hello")
        self.assertEqual(await in_thread(client.recv, 100), b"hello")
        (protocol,) = self.factory.made
        self.assertEqual((self.factory.addresses[0].host, protocol.transport.getPeer().host), (PEER[0], PEER[0]))
        self.assertEqual(protocol.transport.getHost().port, 443)
        self.assertEqual((protocol.facts.peer, protocol.facts.route, protocol.spoken), (PEER, "mine", 0))
        shown = self.sessions.page(None, 10)["connections"][0]
        self.assertEqual((shown["session"], shown["target"], shown["bytes_in"]), ("s-1", "hooks:it", 5))
        client.close()
        event = await self.event()
        self.assertEqual((event.bytes_in, event.bytes_out, event.target), (5, 5, "hooks:it"))
        self.assertEqual((event.ended_by, event.termination, list(event.phases)), ("client", "done", ["handler"]))
        self.assertIsNotNone(protocol.reason)
        self.assertEqual(len(self.sessions), 0)

    async def test_one_who_can_end_half_of_it_does(self) -> None:
        self.factory = Remembering(Sum)
        client = self.taken(self.route())
        client.sendall(b"x" * 1000)
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(await in_thread(client.recv, 100), b"1000")
        self.assertEqual(((await self.event()).ended_by, len(self.sessions)), ("target", 0))

    async def test_the_operator_cuts_one(self) -> None:
        """And nobody else."""
        self.taken(self.route()), self.taken(self.route(), "s-2")
        self.assertEqual((self.sessions.kill("s-3"), self.sessions.kill("s-1")), (0, 1))
        self.assertEqual(((await self.event()).reason, len(self.sessions)), ("ended by the operator", 1))

    async def test_time_runs_out(self) -> None:
        """Each in its way, in order where that can be; a busy one is not idle."""
        routes = ((self.route(idle=0.3), "idle timeout"), (self.route(lifetime=0.3), "lifetime timeout"))
        for route, reason in routes:
            client = self.taken(route)
            self.assertEqual(await in_thread(client.recv, 100), b"")
            event = await self.event()
            self.assertEqual((event.ended_by, event.reason), ("router", reason))
        self.taken(self.route(least=MinRate(bytes=1000, over=1.0)))
        self.assertEqual((await self.event()).reason, "min_rate")

    async def test_a_drain_gives_them_their_time(self) -> None:
        """It is over when they are."""
        client = self.taken(self.route(drain=0.3))
        drained = self.sessions.drain()
        self.assertEqual(await in_thread(client.recv, 100), b"")
        await drained
        self.assertEqual((await self.event()).reason, "drained")

    async def test_one_that_nobody_reads_from_ends_all_the_same(self) -> None:
        """After `half_closed`, though all that it has to say has not left."""
        client = self.taken(self.route(half_closed=0.3))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await until(lambda: self.factory.made)
        transport = self.factory.made[0].transport
        transport.write(b"x" * 20_000_000)
        transport.loseConnection()
        event = await self.event()
        self.assertEqual((event.ended_by, event.bytes_out), ("target", 20_000_000))

    async def test_what_the_factory_does_not_want_is_closed(self) -> None:
        self.patch(self.factory, "buildProtocol", lambda addr: None)
        client = self.taken(self.route())
        self.assertEqual(await in_thread(client.recv, 100), b"")
        self.assertEqual((await self.event()).reason, "refused by the factory")

    async def test_a_defect_anywhere_ends_its_connection(self) -> None:
        """Also a wish to end the process."""

        def broken(*given: object) -> None:
            raise SystemExit("broken")

        for where in ("connectionMade", "dataReceived", "connectionLost"):
            self.factory = Remembering(type("Broken", (Echo,), {where: broken}))
            client = self.taken(self.route())
            client.sendall(b"x")
            if where == "connectionLost":
                client.close()
            event = await self.event()
            reason = "closed" if where == "connectionLost" else "the handler has failed: SystemExit: broken"
            self.assertEqual(event.reason, reason, where)
            self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)

    async def test_what_is_no_protocol_ends_its_connection(self) -> None:
        """And nothing of it stays: a drain would wait for it."""
        self.patch(self.factory, "buildProtocol", lambda addr: "no protocol")
        client = self.taken(self.route())
        with self.assertRaises(ConnectionResetError):
            await in_thread(client.recv, 100)
        event = await self.event()
        self.assertIn("the handler has failed: AttributeError", event.reason)
        self.assertEqual(len(self.sessions), 0)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 2)

    async def test_what_is_no_exception_ends_its_connection(self) -> None:
        """What is raised past `except Exception`, at the end too."""

        class Beyond(BaseException):
            """Of foreign code."""

        def broken(*given: object) -> None:
            raise Beyond

        self.factory = Remembering(type("Broken", (Echo,), {"dataReceived": broken, "connectionLost": broken}))
        self.taken(self.route()).sendall(b"x")
        self.assertIn("the handler has failed: Beyond", (await self.event()).reason)
        self.assertEqual(len(self.sessions), 0)
        self.flushLoggedErrors(Beyond)

    async def test_who_has_gone_before_is_told_of(self) -> None:
        """And so is a connection whose route has gone."""
        self.taken(None)
        self.assertEqual((await self.event()).reason, "its route has gone")
        self.assertEqual(self.sessions.ends, {"mine": {"router:handler": 1}})


class TlsTests(SessionCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority()
        self.chooser.update([self.authority.credential(["a.example.test"])])
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        (self.folder / "ca.pem").write_bytes(self.authority.root_pem)

    def speak(self, client: socket.socket, *alpn: str, shown: str = "") -> tuple[str | None, bytes]:
        """ALPN, and what comes back for `hello`."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if shown:
            context.load_cert_chain(self.folder / f"{shown}.pem", self.folder / f"{shown}.key")
        with context.wrap_socket(client, server_hostname="a.example.test") as sock:
            sock.sendall(b"hello")
            return sock.selected_alpn_protocol(), sock.recv(100)

    async def test_the_protocol_begins_when_tls_speaks(self) -> None:
        """Its facts tell what was negotiated; one that listens for the handshake hears of it."""
        client = self.taken(self.route(RouteTls(mode="terminate", alpn=("echo",))))
        self.assertEqual(await in_thread(self.speak, client, "echo"), ("echo", b"hello"))
        (protocol,) = self.factory.made
        facts = protocol.facts
        self.assertEqual((facts.sni, facts.alpn, facts.tls_version), ("a.example.test", "echo", "TLSv1.3"))
        self.assertEqual(protocol.spoken, 1)
        event = await self.event()
        self.assertEqual((event.bytes_in, event.bytes_out, list(event.phases)), (5, 5, ["tls", "handler"]))

    async def test_who_speaks_no_tls_meets_nobody(self) -> None:
        """Neither with something else, nor with nothing at all."""
        client = self.taken(self.route(RouteTls(mode="terminate")))
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        event = await self.event()
        self.assertTrue(event.reason.startswith("TLS handshake: "), event)
        self.taken(self.route(RouteTls(mode="terminate"), hello=0.3))
        event = await self.event()
        self.assertEqual((event.reason, event.termination), ("hello timeout", "router:tls"))
        self.assertEqual(self.factory.made, [])

    async def test_clients_prove_who_they_are(self) -> None:
        """One who does not is turned away with the reason."""
        write(self.authority.credential(["alice"]), self.folder, "alice")
        auth = ClientAuth(ca=self.folder / "ca.pem")
        route = self.route(RouteTls(mode="terminate", client_auth=auth))
        route.believe({str(auth.ca): self.authority.root_pem})
        client = self.taken(route)
        self.assertEqual((await in_thread(lambda: self.speak(client, shown="alice")))[1], b"hello")
        self.assertEqual(self.factory.made[0].facts.client_certificate, "CN=alice")
        self.assertEqual((await self.event()).client_certificate, "CN=alice")
        other = self.taken(route)
        await self.assertFailure(in_thread(self.speak, other), ssl.SSLError, OSError)
        self.assertEqual((await self.event()).reason, "TLS handshake: peer did not return a certificate")

    async def test_without_a_certificate_it_says_so_in_tls(self) -> None:
        """An alert, which clients understand."""
        self.chooser.update([])
        client = self.taken(self.route(RouteTls(mode="terminate")))
        await self.assertFailure(in_thread(self.speak, client), ssl.SSLError)
        self.assertIn("no certificate for", (await self.event()).reason)
