from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.trial.unittest import SkipTest

from dcrouter.config.actions import Forward
from dcrouter.config.forms import Secret
from dcrouter.config.health import Health, HealthType
from dcrouter.config.routes import RouteTls, Timeouts
from dcrouter.config.targets import Target, UpstreamTls
from dcrouter.config.through import Proxy
from dcrouter.targets import through as module
from dcrouter.wire.tunnel import Scheme
from tests.support.certificates import Authority
from tests.support.edge import Backend, EdgeTest, echo, route, says, secured
from tests.support.ends import descriptors
from tests.support.ports import reserved
from tests.support.programs import Program
from tests.support.proxies import Dante, Microsocks, Tinyproxy, TlsBefore

BULK = bytes(range(256)) * 8192
GREETING = b"220 I speak first\r\n"


def greet(sock: socket.socket) -> None:
    """A talk: says something at once, and then gives back what comes."""
    sock.sendall(GREETING)
    echo(sock)


class ThroughTest(EdgeTest):
    def proxy(self, program: Program, scheme: Scheme, user: str | None = None, password: str = "") -> Proxy:
        self.addCleanup(program.close)
        return Proxy(scheme=scheme, host="127.0.0.1", port=program.port, user=user, password=Secret(password))

    def by_tls(self) -> Proxy:
        """CONNECT to a proxy whose certificate the system trusts."""
        inner = Tinyproxy("me", "secret")
        self.addCleanup(inner.close)
        outer = TlsBefore(inner.port, "proxy.test")
        self.trust(outer.ca_pem)
        proxy = self.proxy(outer, "https", "me", "secret")
        return Proxy(scheme="https", host="proxy.test", port=proxy.port, user=proxy.user, password=proxy.password)

    def trust(self, pem: bytes) -> None:
        """What the system's authorities are, for this test."""
        from dcrouter.tls import profile

        self.patch(profile, "system_trust", lambda: pem)
        module._verified.cache_clear()
        self.addCleanup(module._verified.cache_clear)

    def forward(self, proxy: Proxy, *targets: Target, **keys: Any) -> int:
        """A route to these through `proxy` on a port of its own. The edge knows where proxy.test is, nothing else."""
        port = self.port()
        more = {word: keys.pop(word) for word in ("tls", "timeouts") if word in keys}
        ca_files = keys.pop("ca_files", None)
        self.open(route("web", port, Forward(targets=targets, through=proxy, **keys), **more), ca_files=ca_files)
        self.edge.addresses.update({"proxy.test": ["127.0.0.1"]})
        return port

    def open(self, *routes: Any, **keys: Any) -> Any:
        """As ever; and time passes while the edge is turned, so that deadlines come."""
        edge = super().open(*routes, **keys)
        turn, reactor = self.loop.turn, self.loop.reactor

        def turn_on() -> None:
            reactor.advance(0.1)
            turn()

        self.patch(self.loop, "turn", turn_on)
        return edge

    def converse(self, port: int) -> bytes:
        """What a client of `greet` gets: the greeting, and what it has said. Proxies pass on no half-close."""

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                data = bytearray()
                while len(data) < len(GREETING + BULK) and (some := sock.recv(65536)):
                    if not data:
                        threading.Thread(target=sock.sendall, args=(BULK,)).start()
                    data += some
                return bytes(data)

        return self.client(run)


class RealProxyTests(ThroughTest):
    def check(self, proxy: Proxy, *, v6: bool = True) -> None:
        """Names and addresses of both families, a target that speaks first, two megabytes each way."""
        backend = Backend(self, greet)
        targets = [Target(host="localhost", port=backend.port), backend.target]
        if v6:
            other = V6Backend(self)
            targets.append(Target(host="::1", port=other.port))
        port = self.forward(proxy, *targets)
        for target in targets:
            self.assertEqual(self.converse(port), GREETING + BULK)
            host = f"[{target.host}]" if ":" in (target.host or "") else target.host
            event = self.event()
            self.assertEqual(event.target, f"{host}:{target.port}")
            self.assertEqual((event.bytes_in, event.bytes_out), (len(BULK), len(GREETING + BULK)))

    def test_microsocks(self) -> None:
        """SOCKS 5 without a login."""
        self.check(self.proxy(Microsocks(), "socks5"))

    def test_microsocks_with_a_login(self) -> None:
        """By user and password."""
        self.check(self.proxy(Microsocks("me", "secret"), "socks5", "me", "secret"))

    def test_dante(self) -> None:
        """Another implementation, with other pieces; it has no route to ::1."""
        self.check(self.proxy(Dante(), "socks5"), v6=False)

    def test_tinyproxy(self) -> None:
        """HTTP CONNECT."""
        self.check(self.proxy(Tinyproxy(), "http"))

    def test_tinyproxy_with_a_login(self) -> None:
        """By Basic."""
        self.check(self.proxy(Tinyproxy("me", "secret"), "http", "me", "secret"))

    def test_connect_by_tls(self) -> None:
        """The proxy proves its name, and the target is spoken to in clear inside."""
        self.check(self.by_tls())

    def test_reencryption_through_each_kind(self) -> None:
        """TLS with the target, verified by its name, inside whatever the proxy speaks: also inside TLS."""
        authority = Authority()
        backend = Backend(self, secured(echo, authority.credential(["localhost"]), self.directory))
        ca = self.directory / "ca.pem"
        ca.write_bytes(authority.root_pem)
        tls = RouteTls(mode="terminate-and-reencrypt", upstream=UpstreamTls(ca=ca))
        proxies = (
            self.proxy(Microsocks(), "socks5"),
            self.proxy(Tinyproxy(), "http"),
            self.by_tls(),
        )
        for proxy in proxies:
            with self.opened():
                port = self.forward(
                    proxy,
                    Target(host="localhost", port=backend.port),
                    tls=tls,
                    ca_files={str(ca): authority.root_pem},
                )
                self.assertEqual(self.ask_tls_echo(port), BULK)

    def test_nothing_stays_open_of_tls_inside_tls(self) -> None:
        """Whoever leaves first, and however silent the other is."""
        authority = Authority()
        silent = Backend(
            self,
            secured(
                lambda sock: sock.recv(100) and sock.recv(100), authority.credential(["localhost"]), self.directory
            ),
        )
        ca = self.directory / "ca.pem"
        ca.write_bytes(authority.root_pem)
        tls = RouteTls(mode="terminate-and-reencrypt", upstream=UpstreamTls(ca=ca))
        port = self.forward(
            self.by_tls(), Target(host="localhost", port=silent.port), tls=tls, ca_files={str(ca): authority.root_pem}
        )
        before = descriptors()
        context = ssl.create_default_context(cafile=str(self.directory / "internal-ca" / "ca.pem"))

        def run() -> None:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                session = context.wrap_socket(sock, server_hostname="localhost")
                session.sendall(b"x")
                session.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                session.close()

        for _ in range(3):
            self.client(run)
            self.event()
        self.loop.until(lambda: not self.edge.engine.tasks)
        self.loop.until(lambda: not descriptors() - before)

    def ask_tls_echo(self, port: int) -> bytes:
        context = ssl.create_default_context(cafile=str(self.directory / "internal-ca" / "ca.pem"))

        def run() -> bytes:
            with (
                socket.create_connection(("127.0.0.1", port), 30) as sock,
                context.wrap_socket(sock, server_hostname="localhost") as session,
            ):
                got = bytearray()
                for at in range(0, len(BULK), 65536):
                    session.sendall(BULK[at : at + 65536])
                    while len(got) < min(at + 65536, len(BULK)):
                        got += session.recv(65536)
                return bytes(got)

        return self.client(run)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """An edge of its own within a test that opens several."""
        self.listeners = []
        yield
        self.edge.stop()

    def test_checks_go_the_same_way(self) -> None:
        """A target that the proxy reaches is up, one that it does not is down for the proxy's reason."""
        backend, kinds = Backend(self, says(b"HTTP/1.1 200 OK\r\n\r\n")), ("tcp", "http")
        closed = Target(host="127.0.0.1", port=reserved(self))
        proxy = self.proxy(Tinyproxy(), "http")
        for kind in kinds:
            with self.opened():
                self.check_health(proxy, backend.target, closed, kind)  # type: ignore[arg-type]

    def check_health(self, proxy: Proxy, good: Target, bad: Target, kind: HealthType) -> None:
        self.forward(proxy, good, bad, health=Health(type=kind, interval=0.2, timeout=20.0))
        labels = [f"127.0.0.1:{target.port}" for target in (good, bad)]

        def known() -> bool:
            self.loop.reactor.advance(0.05)
            return [self.edge.status()["targets"]["web"][label]["health"] for label in labels] == ["up", "down"]

        self.loop.until(known)
        reason = self.edge.status()["targets"]["web"][labels[1]]["reason"]
        self.assertRegex(reason, rf"^through http://127\.0\.0\.1:{proxy.port}: the proxy answered 50\d ")

    def test_requests_share_a_connection_through_a_proxy(self) -> None:
        """The pool keeps it, as any other."""
        asked: list[bytes] = []

        def serve(sock: socket.socket) -> None:
            while head := sock.recv(4096):
                asked.append(head)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        backend = Backend(self, serve)
        port = self.port()
        action = Forward(
            targets=(Target(host="localhost", port=backend.port),), through=self.proxy(Microsocks(), "socks5")
        )
        self.open(route("web", port, action, domains=("a.test",)))
        request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"

        def run() -> list[bytes]:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                answers = []
                for _ in range(3):
                    sock.sendall(request)
                    answers.append(sock.recv(4096))
                return answers

        answers = self.client(run)
        self.assertTrue(all(one.startswith(b"HTTP/1.1 200 ") for one in answers), answers)
        self.assertEqual((len(asked), backend.connections), (3, 1))


class RefusalTests(ThroughTest):
    def reason(self, proxy: Proxy, target: Target, timeouts: Timeouts | None = None) -> str:
        """Why a connection to `target` is not made."""
        port = self.forward(proxy, target, timeouts=timeouts or Timeouts())
        self.assertEqual(self.ask(port, b"x"), b"")
        return self.event().reason

    def test_a_wrong_password(self) -> None:
        """Of SOCKS and of HTTP; it is nowhere in the reason."""
        backend = Backend(self, echo)
        for program, scheme, words in (
            (Microsocks("me", "secret"), "socks5", "the proxy has refused the user or the password"),
            (Tinyproxy("me", "secret"), "http", "the proxy wants a login, or has refused the user or the password"),
        ):
            proxy = self.proxy(program, scheme, "me", "wrong-one")  # type: ignore[arg-type]
            reason = self.reason(proxy, backend.target)
            self.assertEqual(reason, f"127.0.0.1:{backend.port}: through {scheme}://127.0.0.1:{proxy.port}: {words}")
            self.edge.stop()
            self.listeners = []

    def test_a_login_that_the_proxy_does_not_want(self) -> None:
        """Is not said, and nobody minds."""
        backend = Backend(self, says(b"here"))
        port = self.forward(self.proxy(Dante(), "socks5", "me", "secret"), backend.target)
        self.assertEqual(self.ask(port, b"x"), b"here")

    def test_what_the_rules_of_the_proxy_forbid(self) -> None:
        """In the proxy's words; the client's connection ends."""
        reason = self.reason(self.proxy(Dante(), "socks5"), Target(host="127.0.0.99", port=9))
        self.assertIn(": the proxy's rules do not allow it", reason)
        self.edge.stop()
        self.listeners = []
        reason = self.reason(self.proxy(Tinyproxy(), "http"), Target(host="forbidden.test", port=9))
        self.assertIn(": the proxy answered 403 Filtered", reason)

    def test_a_target_that_refuses_the_proxy(self) -> None:
        """The next target is tried, through the same proxy."""
        backend = Backend(self, says(b"second"))
        closed = Target(host="127.0.0.1", port=reserved(self))
        port = self.forward(self.proxy(Microsocks(), "socks5"), closed, backend.target, balance="failover")
        self.assertEqual(self.ask(port, b"x"), b"second")
        self.assertEqual(self.edge.failed_connects, {f"127.0.0.1:{closed.port}": 1})

    def test_a_proxy_that_is_not_there(self) -> None:
        """Or has no address, or is silent, or is nobody that can be trusted."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            target = Target(host="app.test", port=80)
            quick = Timeouts(connect=0.3)
            for proxy, words in (
                (Proxy(scheme="socks5", host="127.0.0.1", port=reserved(self)), "Connection refused"),
                (Proxy(scheme="http", host="nowhere.test", port=1), "its name has no known address"),
                (Proxy(scheme="socks5", host="127.0.0.1", port=silent.getsockname()[1]), "connect timeout"),
                (Proxy(scheme="https", host="127.0.0.1", port=silent.getsockname()[1]), "connect timeout"),
            ):
                self.assertIn(words, self.reason(proxy, target, quick))
                self.edge.stop()
                self.listeners = []

    def test_a_proxy_must_prove_its_name(self) -> None:
        """Before it is told a password."""
        inner = Tinyproxy("me", "secret")
        self.addCleanup(inner.close)
        outer = TlsBefore(inner.port, "other.test")
        self.trust(outer.ca_pem)
        proxy = self.proxy(outer, "https", "me", "secret")
        proxy = Proxy(scheme="https", host="proxy.test", port=proxy.port, user="me", password=Secret("secret"))
        reason = self.reason(proxy, Target(host="127.0.0.1", port=9))
        self.assertIn("not for proxy.test but for other.test", reason)


class V6Backend:
    """`greet` on ::1."""

    def __init__(self, test: EdgeTest) -> None:
        try:
            self._listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError as error:
            raise SkipTest("this host has no IPv6 loopback") from error
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()
        test.addCleanup(self._listener.close)

    def _serve(self) -> None:
        try:
            while True:
                sock, _ = self._listener.accept()
                with sock:
                    greet(sock)
        except OSError:
            return
