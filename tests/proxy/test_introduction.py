"""`action.proxy_protocol`: what targets are told of their clients, and what is kept of what a proxy in front tells."""

from __future__ import annotations

import queue
import socket
import ssl
import tempfile
from ipaddress import ip_network
from pathlib import Path

from attrs import evolve

from dcrouter.config.actions import Forward
from dcrouter.config.health import Health
from dcrouter.config.routes import ProxyProtocol, RouteTls
from dcrouter.config.targets import Target, UpstreamTls
from dcrouter.facts import ConnectionFacts, Introduction
from dcrouter.wire.proxyheader import ProxyHeader, build_v1, build_v2, parse
from dcrouter.wire.proxytlvs import Told
from tests.support.certificates import Authority, write
from tests.support.edge import Backend, EdgeTest, route, secured
from tests.support.peers import require
from tests.support.ports import Reserved
from tests.support.programs import Program
from tests.support.threaded import Talk

CLIENT, DESTINATION = ("203.0.113.9", 4711), ("198.51.100.1", 443)
PROXY = (ProxyProtocol(from_=(ip_network("127.0.0.2/32"),), timeout=5.0),)


class Introduced:
    """A talk that reads the header, byte for byte, keeps it, and lets `talk` go on behind it."""

    def __init__(self, talk: Talk) -> None:
        self.headers: queue.Queue[ProxyHeader] = queue.Queue()
        self._talk = talk

    def __call__(self, sock: socket.socket) -> None:
        data = b""
        while (header := parse(data) if data else None) is None:
            data += sock.recv(1)
        self.headers.put(header)
        self._talk(sock)

    def header(self) -> ProxyHeader:
        """The next one."""
        return self.headers.get(timeout=240)


def program(port: int, version: str) -> Forward:
    """To a program on that port."""
    return Forward(targets=(Target(host="127.0.0.1", port=port),), proxy_protocol=version)  # type: ignore[arg-type]


def answer(sock: socket.socket) -> None:
    sock.sendall(b"heard " + sock.recv(1000))


class OutTests(EdgeTest):
    def target(self, version: str, talk: Talk = answer) -> tuple[Introduced, Forward]:
        introduced = Introduced(talk)
        target = Backend(self, introduced).target
        return introduced, Forward(targets=(target,), proxy_protocol=version)  # type: ignore[arg-type]

    def test_the_target_is_told_who_and_where(self) -> None:
        """v1 and v2, before the first byte of the client's; the session's id is the connection's unique id."""
        for version in ("v1", "v2"):
            introduced, action = self.target(version)
            port = self.port()
            self.listeners = self.listeners[-1:]
            self.open(route("web", port, action))
            self.assertEqual(self.ask(port, b"hello"), b"heard hello")
            header, event = introduced.header(), self.event()
            self.assertEqual((header.source, header.destination), (event.peer, ("127.0.0.1", port)))
            self.assertEqual((event.bytes_in, event.bytes_out), (5, 11), "the header is not the client's")
            told = Told(unique_id=event.session.encode()) if version == "v2" else Told()
            self.assertEqual(header.told, told)

    def test_on_a_wildcard_socket_the_destination_is_the_true_one(self) -> None:
        """Even where nobody else needs to know on which address the client came in."""
        introduced, action = self.target("v2")
        listener = socket.create_server(("0.0.0.0", 0))
        listener.setblocking(False)
        self.listeners.append(listener)
        port = listener.getsockname()[1]
        self.open(route("web", port, action), observe=False)

        def run() -> bytes:
            with socket.create_connection(("127.0.0.9", port), 30) as sock:
                sock.sendall(b"x")
                return sock.recv(100)

        self.assertEqual(self.client(run), b"heard x")
        self.assertEqual(introduced.header().destination, ("127.0.0.9", port))

    def test_what_is_seen_of_tls_is_told(self) -> None:
        """Ended here: version, cipher, ALPN and SNI; passed through: the SNI. Re-encrypted: before our own TLS."""
        ended, ended_action = self.target("v2")
        credential = self.ca.issue(["p.example", "r.example"])
        passed, passed_action = self.target("v2", secured(answer, credential, self.directory))
        again, again_action = self.target("v2", secured(answer, credential, self.directory))
        ca = self.directory / "internal-ca" / "ca.pem"
        port = self.port()
        self.open(
            route("ended", port, ended_action, tls="terminate", domains=("t.example",)),
            route("passed", port, passed_action, tls="passthrough", domains=("p.example",)),
            route(
                "again",
                port,
                again_action,
                tls=RouteTls(
                    mode="terminate-and-reencrypt", upstream=UpstreamTls(ca=ca, server_name="r.example"), alpn=("irc",)
                ),
                domains=("r.example",),
            ),
            ca_files={str(ca): ca.read_bytes()},
        )
        self.assertEqual(self.ask_tls(port, "t.example", b"x"), b"heard x")
        told = ended.header().told
        self.assertEqual((told.authority, told.tls_version, told.client_verified), ("t.example", "TLSv1.3", False))
        self.assertTrue(told.cipher and told.cipher.startswith("TLS_"), told)
        self.assertEqual(self.ask_tls(port, "p.example", b"x"), b"heard x")
        told = passed.header().told
        self.assertEqual((told.authority, told.tls_version), ("p.example", None))
        self.assertEqual(self.ask_tls(port, "r.example", b"x", ["irc"]), b"heard x")
        told = again.header().told
        self.assertEqual((told.authority, told.alpn), ("r.example", "irc"))

    def test_what_a_proxy_in_front_has_told_is_passed_on(self) -> None:
        """Client, destination and everything else, the unique id byte for byte; and it is in the log."""
        told = Told(
            authority="shop.example",
            alpn="h2",
            unique_id=bytes(range(128)),
            tls_version="TLSv1.3",
            cipher="TLS_AES_128_GCM_SHA256",
            client_name="alice",
            client_verified=True,
        )
        introduced, action = self.target("v2")
        port = self.port()
        self.open(route("web", port, action), proxy_protocol=PROXY)
        self.assertEqual(self.ask(port, build_v2(CLIENT, DESTINATION, told) + b"x", "127.0.0.2"), b"heard x")
        header, event = introduced.header(), self.event()
        self.assertEqual((header.source, header.destination, header.told), (CLIENT, DESTINATION, told))
        self.assertEqual(event.introduction, Introduction(DESTINATION, told).to_plain())
        assert event.introduction is not None
        self.assertEqual(event.introduction["unique_id"], bytes(range(128)).hex())
        self.assertEqual((event.peer, event.local, event.via), (CLIENT, ("127.0.0.1", port), "127.0.0.2"))

    def test_requests_are_https_where_the_client_spoke_tls_with_the_proxy_in_front(self) -> None:
        """The target hears of the client's scheme, not of the way from the proxy to us."""
        heard: list[bytes] = []

        def respond(sock: socket.socket) -> None:
            heard.append(sock.recv(65536))
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

        introduced, action = self.target("v1", respond)
        port = self.port()
        self.open(route("web", port, action, domains=("a.example",)), proxy_protocol=PROXY)
        request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
        for told in (Told(tls_version="TLSv1.3"), Told()):
            self.ask(port, build_v2(CLIENT, DESTINATION, told) + request, "127.0.0.2")
            introduced.header()
        self.assertIn(b"\r\nX-Forwarded-Proto: https\r\n", heard[0])
        self.assertIn(b"\r\nX-Forwarded-Proto: http\r\n", heard[1])

    def test_a_proxy_that_speaks_for_itself_is_the_client(self) -> None:
        """LOCAL and UNKNOWN introduce nobody: the target is told of the proxy."""
        for own in (build_v1(None, None), build_v2(None, None)):
            introduced, action = self.target("v2")
            port = self.port()
            self.listeners = self.listeners[-1:]
            self.open(route("web", port, action), proxy_protocol=PROXY)
            self.assertEqual(self.ask(port, own + b"x", "127.0.0.2"), b"heard x")
            header, event = introduced.header(), self.event()
            assert header.source is not None
            self.assertEqual((header.source[0], header.destination), ("127.0.0.2", ("127.0.0.1", port)))
            self.assertIsNone(event.introduction)

    def test_http_requests_of_different_clients_share_no_connection(self) -> None:
        """Each client's own requests do; and its connection to the target goes when the client does."""

        def respond(sock: socket.socket) -> None:
            while sock.recv(65536):
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        introduced, action = self.target("v1", respond)
        port = self.port()
        self.open(route("web", port, action, domains=("a.example",)))
        request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"

        def run() -> list[tuple[str, int]]:
            names = []
            for _ in range(2):
                with socket.create_connection(("127.0.0.1", port), 30) as sock:
                    names.append(sock.getsockname())
                    for _ in range(3):
                        sock.sendall(request)
                        assert sock.recv(1000).endswith(b"ok")
            return names

        names = self.client(run)
        self.assertEqual([introduced.header().source, introduced.header().source], names)
        self.assertTrue(introduced.headers.empty())
        self.loop.until(lambda: not self.edge.status()["active"])
        self.assertEqual(self.edge.plan.pool.waiting, 0)

    def test_checks_speak_for_us(self) -> None:
        """LOCAL, or UNKNOWN: a target that counts or logs clients takes no check for one."""
        for version in ("v1", "v2"):
            introduced, action = self.target(version)
            self.listeners = self.listeners[-1:]
            port = self.port()
            self.open(route("web", port, evolve(action, health=Health(type="tcp", interval=1.0))))

            def asked(introduced: Introduced = introduced) -> bool:
                self.loop.reactor.advance(0.1)
                return not introduced.headers.empty()

            self.loop.until(asked)
            self.assertIsNone(introduced.header().source)


class FactsTests(EdgeTest):
    def test_facts_cross_a_process_border(self) -> None:
        """With everything that was told, bytes included."""
        facts = ConnectionFacts("s1", CLIENT, ("127.0.0.1", 25), 1.0)
        self.assertIsNone(ConnectionFacts.from_plain(facts.to_plain()).introduction)
        facts.introduction = Introduction(DESTINATION, Told(unique_id=b"\xff\0", tls_version="TLSv1.2"))
        facts.client_certificate = "CN=alice"
        again = ConnectionFacts.from_plain(facts.to_plain())
        self.assertEqual((again.introduction, again.client_certificate), (facts.introduction, "CN=alice"))


class ProgramTests(EdgeTest):
    """Real receivers of our headers, and real senders."""

    def test_haproxy_understands_our_headers(self) -> None:
        """accept-proxy checks the checksum too; it sees the client of the proxy in front, name and unique id."""
        front = Reserved()
        base = Path(tempfile.mkdtemp(prefix="haproxy-"))
        (base / "haproxy.cfg").write_text(
            "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
            f"frontend front\n bind 127.0.0.1:{front.port} accept-proxy\n"
            ' http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]'
            ' %[fc_pp_authority] %[fc_pp_unique_id,hex]"\n'
        )
        argv = [require("haproxy"), "-db", "-f", str(base / "haproxy.cfg")]
        haproxy = Program(argv, base, front.port, (front,))
        self.addCleanup(haproxy.close)
        told = Told(authority="shop.example", unique_id=b"id-\x00\xff")
        for version, rest in (("v1", b""), ("v2", b" shop.example 69642D00FF")):
            port = self.port()
            self.listeners = self.listeners[-1:]
            target = program(haproxy.port, version)
            self.open(route("web", port, target), proxy_protocol=PROXY)
            request = b"GET / HTTP/1.0\r\n\r\n"
            said = self.ask(port, build_v2(CLIENT, DESTINATION, told) + request, "127.0.0.2")
            wanted = b"203.0.113.9 4711 198.51.100.1 443" + rest
            self.assertEqual(said.partition(b"\r\n\r\n")[2].strip(), wanted)

    def test_nginx_understands_our_headers(self) -> None:
        """IPv4 and IPv6 clients, in v1 and v2."""
        front = Reserved()
        base = Path(tempfile.mkdtemp(prefix="nginx-"))
        (base / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {base}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; client_body_temp_path {base}/b; proxy_temp_path {base}/p;"
            f" fastcgi_temp_path {base}/f; uwsgi_temp_path {base}/u; scgi_temp_path {base}/s;\n"
            f" server {{ listen 127.0.0.1:{front.port} proxy_protocol;\n"
            ' return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr'
            ' $proxy_protocol_server_port"; } }\n'
        )
        nginx = Program([require("nginx"), "-p", str(base), "-c", str(base / "nginx.conf")], base, front.port, (front,))
        self.addCleanup(nginx.close)
        for version in ("v1", "v2"):
            for client, destination in ((CLIENT, DESTINATION), (("2001:db8::9", 1), ("2001:db8::1", 65535))):
                port = self.port()
                self.listeners = self.listeners[-1:]
                self.open(route("web", port, program(nginx.port, version)), proxy_protocol=PROXY)
                request = b"GET / HTTP/1.0\r\n\r\n"
                said = self.ask(port, build_v1(client, destination) + request, "127.0.0.2").partition(b"\r\n\r\n")[2]
                wanted = f"{client[0]} {client[1]} {destination[0]} {destination[1]}"
                self.assertEqual(said.decode(), wanted, version)

    def test_haproxy_tells_us_everything(self) -> None:
        """It ends the client's TLS, with a certificate; we know version, cipher, names and id, and pass them on."""
        authority = Authority()
        front = Reserved()
        base = Path(tempfile.mkdtemp(prefix="haproxy-"))
        site, alice = authority.credential(["shop.example"]), authority.credential(["alice.example"])
        write(alice, base, "alice")
        (base / "site.pem").write_bytes(site.chain + site.key)
        (base / "ca.pem").write_bytes(authority.root_pem)
        introduced = Introduced(answer)
        action = Forward(targets=(Backend(self, introduced).target,), proxy_protocol="v2")
        port = self.port()
        self.open(route("web", port, action), proxy_protocol=(ProxyProtocol(from_=(ip_network("127.0.0.1/32"),)),))
        (base / "haproxy.cfg").write_text(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
            f"frontend f\n bind 127.0.0.1:{front.port} ssl crt {base}/site.pem ca-file {base}/ca.pem verify required"
            " alpn irc\n unique-id-format id-%[src_port]\n default_backend b\n"
            f"backend b\n server s 127.0.0.1:{port} send-proxy-v2"
            " proxy-v2-options ssl,cert-cn,ssl-cipher,authority,unique-id,crc32c\n"
        )
        argv = [require("haproxy"), "-db", "-f", str(base / "haproxy.cfg")]
        haproxy = self.client(lambda: Program(argv, base, front.port, (front,)))
        self.addCleanup(haproxy.close)
        context = ssl.create_default_context(cafile=str(base / "ca.pem"))
        context.load_cert_chain(base / "alice.pem", base / "alice.key")
        context.set_alpn_protocols(["irc"])

        def run() -> tuple[bytes, tuple[str, int]]:
            with (
                socket.create_connection(("127.0.0.1", front.port), 30) as sock,
                context.wrap_socket(sock, server_hostname="shop.example") as session,
            ):
                session.sendall(b"x")
                return session.recv(100), session.getsockname()

        said, name = self.client(run)
        self.assertEqual(said, b"heard x")
        header = introduced.header()
        self.assertEqual((header.source, header.destination), (name, ("127.0.0.1", front.port)))
        told = header.told
        self.assertEqual((told.authority, told.alpn, told.tls_version), ("shop.example", "irc", "TLSv1.3"))
        self.assertEqual((told.client_name, told.client_verified), ("alice.example", True))
        self.assertEqual(told.unique_id, f"id-{name[1]}".encode())
        self.assertTrue(told.cipher, told)
