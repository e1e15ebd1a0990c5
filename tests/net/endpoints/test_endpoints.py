"""Endpoints on endpoints: with real proxies, and with scripted ones that refuse, dribble, stall and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectBindError, ConnectionRefusedError
from twisted.internet.interfaces import IHandshakeListener, ITLSTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dcrouter.errors import ProxyRefusal, TimedOut, TlsError, WireError
from dcrouter.mail.delivery.security import Contexts
from dcrouter.net.endpoints.described import Described
from dcrouter.net.endpoints.opening import Opening
from dcrouter.net.endpoints.place import place
from dcrouter.net.endpoints.secure import Secure
from dcrouter.net.endpoints.tunnel import Stalled, Tunnel
from dcrouter.wire.tunnel import Scheme, handshake
from tests.support.certificates import Authority
from tests.support.facts import until
from tests.support.ports import reserved
from tests.support.programs import Program
from tests.support.proxies import Dante, Microsocks, Tinyproxy, TlsBefore
from tests.support.serving import Serving
from tests.support.trusted import ServerTls

WITHIN = 10.0
GREETING = b"220 I speak first\r\n"


class Far(Protocol):
    """The target: greets, and gives back what comes in capitals; `tls`: `secure` begins TLS."""

    transport: ITLSTransport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.heard = b""

    def connectionMade(self) -> None:
        self.server.sessions.append(self)
        self.server.sources.append(self.transport.getPeer().host)
        if self.server.greeting:
            self.transport.write(self.server.greeting)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if data == b"starttls" and self.server.tls is not None:
            self.transport.write(b"go")
            self.transport.startTLS(ServerTls(self.server.tls))
        elif self.server.script is not None:
            self.server.script(self, data)
        else:
            self.transport.write(data.upper())

    def connectionLost(self, reason: Any = None) -> None:
        self.server.sessions.remove(self)


class Server(Serving):
    """`script` (session, data): instead of the echo. `sources`: who came."""

    def __init__(
        self,
        case: TestCase,
        *,
        greeting: bytes = GREETING,
        script: Any = None,
        tls: Any = None,
        interface: str = "127.0.0.1",
    ) -> None:
        self.greeting = greeting
        self.script = script
        self.tls = tls
        self.sources: list[str] = []
        super().__init__(case, lambda: Far(self), interface)


@implementer(IHandshakeListener)
class Near(Protocol):
    """Ours: keeps what it hears."""

    heard = b""
    secured = False
    lost = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def handshakeCompleted(self) -> None:
        self.secured = True

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


NEAR = Factory.forProtocol(Near)
NEAR.noisy = False


class EndpointTest(TestCase):
    def at(self, port: int, host: str = "127.0.0.1", **more: Any) -> Any:
        return place(reactor, host, port, timeout=WITHIN, **more)

    def tunnel(self, inner: Any, scheme: Scheme, host: str, port: int, *login: str, timeout: float = WITHIN) -> Tunnel:
        user, password = login or (None, "")
        return Tunnel(inner, lambda: handshake(scheme, host, port, user, password), reactor, timeout)

    async def works(self, endpoint: Any, greeting: bytes = GREETING) -> Any:
        """Both directions, until we leave."""
        near = await endpoint.connect(NEAR)
        await until(lambda: near.heard == greeting)
        near.transport.write(b"hello")
        await until(lambda: near.heard == greeting + b"HELLO")
        near.transport.loseConnection()
        await until(lambda: near.lost)

    async def fails(self, endpoint: Any, kind: type[Exception], words: str = "") -> Any:
        """With this error; no connection of ours stays."""
        with self.assertRaises(kind) as caught:
            await endpoint.connect(NEAR)
        self.assertIn(words, str(caught.exception))
        return caught.exception


class PlaceTests(EndpointTest):
    async def test_a_source_address(self) -> None:
        """The target sees it; IPv6 likewise, where this host has it."""
        server = Server(self)
        await self.works(self.at(server.port, source="127.0.0.9"))
        self.assertEqual(server.sources, ["127.0.0.9"])
        six = Server(self, interface="::1")
        await self.works(self.at(six.port, "::1", source="::1"))
        self.assertEqual(six.sources, ["::1"])

    async def test_a_source_that_is_not_ours(self) -> None:
        """It cannot be bound."""
        await self.fails(self.at(9, source="192.0.2.77"), ConnectBindError)


class OpeningTests(EndpointTest):
    async def test_a_proxy_header_comes_first(self) -> None:
        """Before what the protocol says when it is connected, also inside a tunnel."""
        server = Server(self)
        proxy = Microsocks()
        self.addCleanup(proxy.close)
        for inner in (self.at(server.port), self.tunnel(self.at(proxy.port), "socks5", "127.0.0.1", server.port)):
            near = await Opening(inner, b"PROXY UNKNOWN\r\n", reactor).connect(NEAR)
            near.transport.write(b"EHLO")
            await until(lambda: server.sessions and server.sessions[0].heard == b"PROXY UNKNOWN\r\nEHLO")
            near.transport.loseConnection()
            await until(lambda: not server.sessions)


class RealProxyTests(EndpointTest):
    async def test_each_kind_by_name_and_address(self) -> None:
        """microsocks and tinyproxy with a login and without, Dante; names are the proxy's to resolve; IPv6 targets."""
        server, six = Server(self), Server(self, interface="::1")
        kinds: tuple[tuple[Microsocks | Dante | Tinyproxy, Scheme, tuple[str, ...]], ...] = (
            (Microsocks(), "socks5", ()),
            (Microsocks("me", "secret"), "socks5", ("me", "secret")),
            (Dante(), "socks5", ()),
            (Tinyproxy(), "http", ()),
            (Tinyproxy("me", "secret"), "http", ("me", "secret")),
        )
        for program, scheme, login in kinds:
            self.addCleanup(program.close)
            for host in ("localhost", "127.0.0.1"):
                await self.works(self.tunnel(self.at(program.port), scheme, host, server.port, *login))
            if not isinstance(program, Dante):  # it has no route to ::1
                await self.works(self.tunnel(self.at(program.port), scheme, "::1", six.port, *login))

    async def test_what_a_proxy_says_tells_whom_to_blame(self) -> None:
        """A target that is not there: final. Rules of the proxy: another one may do. A wrong password: its own."""
        socks, dante, http = Microsocks("me", "secret"), Dante(), Tinyproxy("me", "secret")
        for program in (socks, dante, http):
            self.addCleanup(program.close)
        gone = reserved(self)
        error = await self.fails(
            self.tunnel(self.at(socks.port), "socks5", "127.0.0.1", gone, "me", "secret"), ProxyRefusal, "refused"
        )
        self.assertTrue(error.final)
        error = await self.fails(
            self.tunnel(self.at(http.port), "http", "127.0.0.1", gone, "me", "secret"), ProxyRefusal
        )
        self.assertTrue(error.final)
        error = await self.fails(self.tunnel(self.at(dante.port), "socks5", "127.0.0.99", gone), ProxyRefusal, "rules")
        self.assertFalse(error.final)
        wrong: tuple[tuple[Program, Scheme], ...] = ((socks, "socks5"), (http, "http"))
        for server, scheme in wrong:
            error = await self.fails(
                self.tunnel(self.at(server.port), scheme, "127.0.0.1", gone, "me", "wrong"), WireError, "password"
            )
            self.assertNotIsInstance(error, ProxyRefusal)

    async def test_a_chain(self) -> None:
        """Through one proxy to another one, and through that to the target."""
        server, one, other = Server(self), Microsocks(), Tinyproxy("me", "secret")
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        first = self.tunnel(self.at(one.port), "socks5", "localhost", other.port)
        await self.works(self.tunnel(first, "http", "localhost", server.port, "me", "secret"))


class ScriptedTests(EndpointTest):
    async def test_replies_in_bites_and_early_words(self) -> None:
        """An octet at a time; and the target's greeting in the same segment as the proxy's consent."""
        reply = b"\x05\x00\x00\x01\x7f\0\0\x01\0\x19"

        def dribble(session: Far, data: bytes) -> None:
            answer = b"\x05\x00" if data == b"\x05\x01\x00" else reply
            for at in range(len(answer)):
                reactor.callLater(0.005 * at, session.transport.write, answer[at : at + 1])
            session.server.script = None if answer is reply else dribble

        slow = Server(self, greeting=b"", script=dribble)
        await self.works(self.tunnel(self.at(slow.port), "socks5", "mx.test", 25), greeting=b"")

        def glued(session: Far, data: bytes) -> None:
            session.transport.write(b"HTTP/1.1 200 ok\r\nX: y\r\n\r\n" + GREETING)
            session.server.script = None

        early = Server(self, greeting=b"", script=glued)
        await self.works(self.tunnel(self.at(early.port), "http", "mx.test", 25))

    async def test_silence_and_its_end(self) -> None:
        """Before the target was named it is the proxy's, after that it may be the target's; closed at once; nobody."""
        silent = Server(self, greeting=b"", script=lambda session, data: None)
        await self.fails(self.tunnel(self.at(silent.port), "socks5", "a.test", 25, timeout=0.1), TimedOut, "proxy")
        await self.fails(self.tunnel(self.at(silent.port), "http", "a.test", 25, timeout=1.0), Stalled)
        await until(lambda: not silent.sessions)

        def greets(session: Far, data: bytes) -> None:
            if data == b"\x05\x01\x00":
                session.transport.write(b"\x05\x00")

        half = Server(self, greeting=b"", script=greets)
        await self.fails(self.tunnel(self.at(half.port), "socks5", "a.test", 25, timeout=1.0), Stalled)
        rude = Server(self, greeting=b"", script=lambda session, data: session.transport.loseConnection())
        await self.fails(self.tunnel(self.at(rude.port), "socks5", "a.test", 25), WireError, "closed")
        mail = Server(self)
        await self.fails(self.tunnel(self.at(mail.port), "socks5", "a.test", 25), WireError, "does not speak SOCKS 5")
        await self.fails(self.tunnel(self.at(mail.port), "http", "a.test", 25), WireError, "does not speak HTTP")
        await self.fails(self.tunnel(self.at(reserved(self)), "http", "a.test", 25), ConnectionRefusedError)
        await until(lambda: not (half.sessions or rude.sessions or mail.sessions))

    async def test_cancelled(self) -> None:
        """While the proxy is silent: its connection is gone."""
        silent = Server(self, greeting=b"", script=lambda session, data: None)
        connecting = self.tunnel(self.at(silent.port), "socks5", "a.test", 25).connect(NEAR)
        await until(lambda: silent.sessions)
        connecting.cancel()
        await self.assertFailure(connecting, CancelledError)
        await until(lambda: not silent.sessions)


class SecureTests(EndpointTest):
    def before(self, target: int, authority_pem: bool = True) -> tuple[TlsBefore, Any]:
        """TLS in front of a proxy or target, and sessions that believe in it."""
        outer = TlsBefore(target, "proxy.test")
        self.addCleanup(outer.close)
        contexts = Contexts({"ca": outer.ca_pem if authority_pem else Authority().root_pem})
        return outer, lambda host="proxy.test": contexts.verified(host, "ca")

    async def test_tls_to_the_proxy_and_tls_to_the_target_within(self) -> None:
        """CONNECT by TLS; the target is spoken to in clear, and then by STARTTLS inside of that."""
        authority = Authority()
        server = Server(self, tls=authority.credential(["localhost"]))
        proxy = Tinyproxy("me", "secret")
        self.addCleanup(proxy.close)
        outer, session = self.before(proxy.port)
        way = self.tunnel(Secure(self.at(outer.port), session, reactor, WITHIN), "http", "localhost", server.port,
                          "me", "secret")  # fmt: skip
        await self.works(way)
        near = await way.connect(NEAR)
        await until(lambda: near.heard == GREETING)
        near.transport.write(b"starttls")
        await until(lambda: near.heard == GREETING + b"go")
        inside = Contexts({"ca": authority.root_pem}).verified("localhost", "ca")
        near.transport.startTLS(inside)
        await until(lambda: near.secured)
        self.assertTrue(inside.check(near.transport).startswith("TLSv1.3"))
        big = b"x" * 300_000
        near.heard = b""
        near.transport.write(big)
        await until(lambda: near.heard == big.upper())
        near.transport.loseConnection()
        await until(lambda: near.lost and not server.sessions)

    async def test_starttls_inside_of_any_endpoint(self) -> None:
        """By its description: a socket as it is; TLS of Twisted's own, within which TLS begins once more."""
        authority = Authority()
        server = Server(self, tls=authority.credential(["localhost"]))
        await self.works(Described(f"tcp:127.0.0.1:{server.port}", reactor, WITHIN))
        outer = TlsBefore(server.port, "localhost")
        self.addCleanup(outer.close)
        roots = Path(self.mktemp())
        roots.mkdir()
        (roots / "root.pem").write_bytes(outer.ca_pem)
        description = f"tls:localhost:{outer.port}:trustRoots={roots}"
        near = await Described(description, reactor, WITHIN).connect(NEAR)
        await until(lambda: near.heard == GREETING)
        near.transport.write(b"starttls")
        await until(lambda: near.heard == GREETING + b"go")
        inside = Contexts({"ca": authority.root_pem}).verified("localhost", "ca")
        near.transport.startTLS(inside)
        await until(lambda: near.secured)
        near.transport.write(b"hello")
        await until(lambda: near.heard.endswith(b"HELLO"))
        near.transport.loseConnection()
        await until(lambda: near.lost and not server.sessions)

    async def test_who_is_somebody_else(self) -> None:
        """Another name, an unknown authority, no TLS at all, silence: told in words, and nothing was said inside."""
        server = Server(self)
        outer, session = self.before(server.port)
        await self.fails(
            Secure(self.at(outer.port), lambda: session("other.test"), reactor, WITHIN), TlsError, "hostname mismatch"
        )
        strange, session = self.before(server.port, authority_pem=False)
        await self.fails(Secure(self.at(strange.port), session, reactor, WITHIN), TlsError, "certificate verify failed")
        await self.fails(Secure(self.at(server.port), session, reactor, WITHIN), TlsError)
        silent = Server(self, greeting=b"", script=lambda session, data: None)
        await self.fails(Secure(self.at(silent.port), session, reactor, 0.1), TimedOut, "tls timeout")
        self.assertEqual([one.heard for one in server.sessions], [])
        await until(lambda: not silent.sessions)
