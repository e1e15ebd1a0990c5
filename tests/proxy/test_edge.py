from __future__ import annotations

import errno
import os
import socket
import ssl
import struct
import threading
from ipaddress import ip_address, ip_network

from twisted.logger import capturedLogs

from dcrouter.config.actions import Block, Forward, MailHandover, Redirect, Respond
from dcrouter.config.routes import Defaults, ProxyProtocol, RouteTls, Timeouts
from dcrouter.config.security import Security
from dcrouter.config.targets import Target, UpstreamTls
from dcrouter.facts import ConnectionFacts
from dcrouter.net.channel import Channel
from dcrouter.proxy import taker
from dcrouter.wire.clienthello import ALERT_UNRECOGNIZED_NAME
from dcrouter.wire.proxyheader import build_v1, build_v2
from tests.support.certificates import Authority
from tests.support.edge import Backend, EdgeTest, answers, echo, read_all, route, says, secured
from tests.support.logged import logged
from tests.support.ports import reserved

REQUEST = b"GET /x?y=1 HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"


class PlainTests(EdgeTest):
    def test_bytes_pass_both_ways_and_the_event_tells(self) -> None:
        """A plain route forwards; the event says who, where, how much, how long, who ended it."""
        backend = Backend(self, says(b"hello back"))
        port = self.port()
        self.open(route("web", port, backend.target))
        self.assertEqual(self.ask(port, b"hello"), b"hello back")
        event = self.event()
        self.assertEqual(event.route, "web")
        self.assertEqual(event.target, f"127.0.0.1:{backend.port}")
        self.assertEqual((event.bytes_in, event.bytes_out), (5, 10))
        self.assertEqual(event.peer[0], "127.0.0.1")
        self.assertEqual(event.local, ("127.0.0.1", port))
        self.assertEqual((event.ended_by, event.reason), ("target", "closed"))
        self.assertEqual(list(event.phases), ["connect", "relay"])

    def test_a_target_that_speaks_first_is_heard_at_once(self) -> None:
        """Never wait for client bytes unless a route of that port needs them."""
        backend = Backend(self, lambda sock: sock.sendall(b"220 ready\r\n"))
        port = self.port()
        self.open(route("ftp", port, backend.target))
        self.assertEqual(self.ask(port, b""), b"220 ready\r\n")

    def test_a_half_close_is_passed_on(self) -> None:
        """The client ends its side, the target still answers."""

        def count(sock: socket.socket) -> None:
            sock.sendall(b"%d" % len(read_all(sock)))

        backend = Backend(self, count)
        port = self.port()
        self.open(route("count", port, backend.target))

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                sock.sendall(bytes(1000000))
                sock.shutdown(socket.SHUT_WR)
                return read_all(sock)

        self.assertEqual(self.client(run), b"1000000")
        self.assertEqual(self.event().ended_by, "client")

    def test_a_reset_target_is_a_reset_for_the_client(self) -> None:
        """What the client has must not look complete."""

        def reset(sock: socket.socket) -> None:
            sock.recv(100)
            sock.sendall(b"half of it")
            sock.recv(1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        backend = Backend(self, reset)
        port = self.port()
        self.open(route("web", port, backend.target))

        def run() -> None:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                sock.sendall(b"x")
                sock.recv(100)
                sock.sendall(b"y")
                read_all(sock)

        self.assertRaises(ConnectionResetError, self.client, run)
        event = self.event()
        self.assertEqual((event.ended_by, event.reason), ("target", "Connection reset by peer"))

    def test_the_next_target_is_tried_when_a_connect_fails(self) -> None:
        backend = Backend(self, says(b"second"))
        dead = reserved(self)
        port = self.port()
        action = Forward(targets=(Target(host="127.0.0.1", port=dead), backend.target), balance="failover")
        self.open(route("web", port, action))
        for _ in range(3):
            self.assertEqual(self.ask(port, b"x"), b"second")
        self.assertEqual(self.edge.status()["failed_connects"], {f"127.0.0.1:{dead}": 3})

    def test_a_target_that_fails_is_told_once_a_minute(self) -> None:
        """Whenever it begins to fail, with how often it has; another one is another news."""
        backend = Backend(self, says(b"second"))
        dead = [reserved(self) for _ in range(2)]
        targets = tuple(Target(host="127.0.0.1", port=port) for port in dead)
        port = self.port()
        self.open(route("web", port, Forward(targets=(*targets, backend.target), balance="failover", retries=2)))
        with capturedLogs() as logs:
            for _ in range(3):
                self.assertEqual(self.ask(port, b"x"), b"second")
            self.assertEqual([line["target"] for line in logs], [f"127.0.0.1:{one}" for one in dead])
            self.loop.reactor.advance(60)
            self.assertEqual(self.ask(port, b"x"), b"second")
        self.assertEqual([line["count"] for line in logs], [1, 1, 4, 4])

    def test_retries_bound_the_targets_that_are_tried(self) -> None:
        backend = Backend(self, says(b"third"))
        dead = tuple(Target(host="127.0.0.1", port=reserved(self)) for _ in range(2))
        port = self.port()
        self.open(route("web", port, Forward(targets=(*dead, backend.target), balance="failover", retries=1)))
        self.assertEqual(self.ask(port, b""), b"")
        event = self.event()
        self.assertEqual(event.reason, f"127.0.0.1:{dead[1].port}: Connection refused")

    def test_round_robin_takes_turns(self) -> None:
        backends = [Backend(self, says(b"%d" % number)) for number in range(3)]
        port = self.port()
        self.open(route("web", port, Forward(targets=tuple(backend.target for backend in backends))))
        self.assertEqual([self.ask(port, b"x") for _ in range(6)], [b"0", b"1", b"2", b"0", b"1", b"2"])

    def test_a_name_has_the_addresses_that_the_parent_told_last(self) -> None:
        backend = Backend(self, says(b"found"))
        port = self.port()
        self.open(route("web", port, Target(host="app.internal", port=backend.port)))
        self.assertEqual(self.ask(port, b"x"), b"")
        self.assertEqual(self.event().reason, "no target: no target has a known address yet")
        self.edge.addresses.update({"app.internal": ["127.0.0.2", "127.0.0.1"]})
        self.assertEqual(self.ask(port, b"x"), b"found")

    def test_port_preserve_goes_to_the_incoming_port(self) -> None:
        port = self.port()
        listener = socket.create_server(("127.0.0.3", port))
        self.addCleanup(listener.close)
        self.open(route("same", port, Target(host="127.0.0.3")))

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                sock.sendall(b"through")
                peer, _ = listener.accept()
                with peer:
                    return peer.recv(100)

        self.assertEqual(self.client(run), b"through")

    def test_a_unix_socket_is_a_target(self) -> None:
        path = os.path.relpath(self.directory / "app.sock")
        Backend(self, says(b"unix"), family=socket.AF_UNIX, path=path)
        port = self.port()
        from pathlib import Path

        self.open(route("app", port, Target(unix=Path(path))))
        self.assertEqual(self.ask(port, b"x"), b"unix")

    def test_hosts_tell_plain_routes_apart(self) -> None:
        """Host on plain HTTP: exact before wildcard before any; each request of a connection finds its own."""
        seen: list[bytes] = []

        def remember(text: bytes) -> Backend:
            return Backend(self, answers(text, seen=seen))

        port = self.port()
        self.open(
            route("any", port, remember(b"any").target),
            route("deep", port, remember(b"deep").target, domains=("**.example.com",)),
            route("wild", port, remember(b"wild").target, domains=("*.example.com",)),
            route("exact", port, remember(b"exact").target, domains=("www.example.com",)),
        )
        hosts = (
            b"www.example.com",
            b"WWW.example.com.:%d" % port,
            b"api.example.com",
            b"a.b.example.com",
            b"example.com",
        )
        expected = [b"exact", b"exact", b"wild", b"deep", b"any"]
        for host, text in zip(hosts, expected, strict=True):
            self.assertTrue(self.ask(port, REQUEST % host).endswith(b"\r\n\r\n" + text), host)
            self.assertIn(b"GET /x?y=1 HTTP/1.1\r\nHost: " + host + b"\r\n", seen.pop())
        kept = b"".join(REQUEST.replace(b"close", b"keep-alive") % host for host in hosts[:-1]) + REQUEST % hosts[-1]
        answer = self.ask(port, kept)
        self.assertEqual([line.partition(b"HTTP")[0] for line in answer.split(b"\r\n\r\n")[1:]], expected)
        done = [self.request().route for _ in range(10)][5:]
        self.assertEqual(done, ["exact", "exact", "wild", "deep", "any"])

    def test_a_request_in_single_bytes_finds_its_route(self) -> None:
        backend = Backend(self, answers(b"found"))
        port = self.port()
        self.open(route("web", port, backend.target, domains=("slow.example",)))

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in REQUEST % b"slow.example":
                    sock.sendall(bytes((byte,)))
                return read_all(sock)

        self.assertTrue(self.client(run).endswith(b"found"))

    def test_an_ambiguous_request_is_refused(self) -> None:
        """Two Hosts could mean two routes: 400, and no target hears of it."""
        backend = Backend(self, says(b"never"))
        port = self.port()
        self.open(route("web", port, backend.target, domains=("a.example",)))
        answer = self.ask(port, b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
        self.assertEqual(backend.connections, 0)
        self.assertEqual(self.event().ended_by, "client")

    def test_addresses_tell_routes_apart_without_a_byte(self) -> None:
        """client_ips and listen: more conditions come first."""
        first, second = Backend(self, says(b"inside")), Backend(self, says(b"outside"))
        port = self.port()
        self.open(
            route("outside", port, second.target),
            route("inside", port, first.target, client_ips=(ip_network("127.0.0.7/32"),)),
            route("elsewhere", port, first.target, listen=(ip_address("127.0.0.9"),), priority=5),
        )
        self.assertEqual(self.ask(port, b"x", "127.0.0.7"), b"inside")
        self.assertEqual(self.ask(port, b"x", "127.0.0.8"), b"outside")

    def test_priority_beats_everything(self) -> None:
        first, second = Backend(self, answers(b"high")), Backend(self, answers(b"exact"))
        port = self.port()
        self.open(
            route("exact", port, second.target, domains=("a.example",)),
            route("high", port, first.target, priority=1),
        )
        self.assertTrue(self.ask(port, REQUEST % b"a.example").endswith(b"high"))

    def test_nobodys_request_is_a_404(self) -> None:
        backend = Backend(self, answers(b"default"))
        port = self.port()
        self.open(route("web", port, backend.target, domains=("a.example",)))
        self.assertTrue(self.ask(port, REQUEST % b"b.example").startswith(b"HTTP/1.1 404 "))
        done = self.request()
        self.assertEqual((done.route, done.status, done.reason), (None, 404, "no route"))
        self.assertEqual(backend.connections, 0)

    def test_the_default_target_takes_what_no_route_matches(self) -> None:
        backend = Backend(self, answers(b"default"))
        port = self.port()
        self.open(route("web", port, Block(), domains=("a.example",)), defaults=Defaults(target=backend.target))
        self.assertTrue(self.ask(port, REQUEST % b"b.example").endswith(b"default"))

    def test_every_phase_has_its_time(self) -> None:
        """hello, idle, half_closed and lifetime, each named in the event."""
        over = threading.Event()
        self.addCleanup(over.set)
        silent = Backend(self, lambda sock: over.wait(30))
        hello, idle, half, life = (self.port() for _ in range(4))
        self.open(
            route("hello", hello, silent.target, tls="passthrough", domains=("a.example",)),
            route("idle", idle, silent.target, timeouts=Timeouts(idle=2.0)),
            route("half", half, silent.target, timeouts=Timeouts(half_closed=2.0)),
            route("life", life, silent.target, timeouts=Timeouts(lifetime=2.0)),
            defaults=Defaults(timeouts=Timeouts(hello=2.0)),
        )
        for port, reason in (
            (hello, "hello timeout"),
            (idle, "idle timeout"),
            (half, "half_closed timeout"),
            (life, "lifetime timeout"),
        ):
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                if port == half:
                    sock.shutdown(socket.SHUT_WR)
                accepted = self.edge.accepted
                self.loop.until(lambda accepted=accepted: self.edge.accepted > accepted)
                for _ in range(60):
                    if self.events:
                        break
                    self.pass_real_time(0.1)
                event = self.event()
                self.assertEqual((event.ended_by, event.reason), ("router", reason))

    def pass_real_time(self, seconds: float) -> None:
        import time

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.loop.reactor.advance(0.1)
            self.loop.turn()
            time.sleep(0.02)


class AnswerTests(EdgeTest):
    def test_redirect_respond_and_block(self) -> None:
        """Answered well-formed, and the connection goes on as long as the client wants."""
        port = self.port()
        self.open(
            route("redirect", port, Redirect(to="https://{host}:8443{uri}"), domains=("a.example",)),
            route("respond", port, Respond(body="ok", headers={"x-by": "us"}), domains=("b.example",)),
            route("block", port, Block(status=451), domains=("c.example",)),
        )
        answer = self.ask(port, REQUEST % b"a.example")
        self.assertTrue(answer.startswith(b"HTTP/1.1 308 "), answer)
        self.assertIn(b"\r\nLocation: https://a.example:8443/x?y=1\r\n", answer)
        self.assertIn(b"\r\nConnection: close\r\n", answer)
        answer = self.ask(port, REQUEST % b"b.example")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer)
        self.assertIn(b"\r\nx-by: us\r\n", answer)
        self.assertTrue(answer.endswith(b"\r\n\r\nok"), answer)
        self.assertTrue(self.ask(port, REQUEST % b"c.example").startswith(b"HTTP/1.1 451 "))
        event = self.event()
        self.assertEqual((event.ended_by, event.reason), ("client", "closed"))
        kept = REQUEST.replace(b"close", b"keep-alive")
        answer = self.ask(port, kept % b"a.example" + kept % b"c.example" + REQUEST % b"b.example")
        self.assertEqual(answer.count(b"HTTP/1.1 "), 3)
        self.assertEqual(answer.count(b"Connection: close"), 1)

    def test_an_answer_reaches_a_client_that_still_sends(self) -> None:
        """A close with unread bytes would reset the answer away: the edge lingers."""
        port = self.port()
        self.open(route("respond", port, Respond(body="enough"), domains=("b.example",)))

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                sock.sendall(b"POST / HTTP/1.1\r\nHost: b.example\r\nContent-Length: 300000\r\n\r\n" + bytes(300000))
                sock.shutdown(socket.SHUT_WR)
                return read_all(sock)

        self.assertTrue(self.client(run).endswith(b"enough"))

    def test_block_without_http_is_a_close(self) -> None:
        port = self.port()
        self.open(route("closed", port, Block(), tls=None))
        self.assertEqual(self.ask(port, b""), b"")
        self.assertEqual(self.event().reason, "blocked")


class TlsTests(EdgeTest):
    def test_passthrough_by_sni_reaches_the_targets_own_tls(self) -> None:
        """The hello stays in the socket: the target does the handshake, with its ALPN."""
        credential = self.ca.issue(["app.example"])
        backend = Backend(self, secured(says(b"own tls"), credential, self.directory))
        port = self.port()
        self.open(route("pass", port, backend.target, tls="passthrough", domains=("app.example",)))
        self.assertEqual(self.ask_tls(port, "app.example", b"x"), b"own tls")
        event = self.event()
        self.assertEqual(event.sni, "app.example")

    def test_terminate_and_reencrypt(self) -> None:
        """Plain to the target, or TLS of our own that verifies it; the event tells the TLS facts."""
        plain = Backend(self, says(b"plain inside"))
        credential = self.ca.issue(["inner.example"])
        inner = Backend(self, secured(says(b"encrypted inside"), credential, self.directory))
        ca_file = self.directory / "internal-ca" / "ca.pem"
        port = self.port()
        upstream = UpstreamTls(ca=ca_file, server_name="inner.example")
        self.open(
            route("terminate", port, plain.target, tls="terminate", domains=("t.example",)),
            route(
                "reencrypt",
                port,
                inner.target,
                tls=RouteTls(mode="terminate-and-reencrypt", upstream=upstream),
                domains=("r.example",),
            ),
            ca_files={str(ca_file): ca_file.read_bytes()},
        )
        self.assertEqual(self.ask_tls(port, "t.example", b"x"), b"plain inside")
        event = self.event()
        self.assertEqual((event.route, event.sni, event.tls_version), ("terminate", "t.example", "TLSv1.3"))
        self.assertEqual(list(event.phases), ["hello", "tls", "connect", "relay"])
        self.assertEqual((event.bytes_in, event.bytes_out), (1, 12))
        answer = self.ask_tls(port, "r.example", b"x")
        self.assertEqual(answer, b"encrypted inside", self.event())

    def test_a_target_that_is_not_who_it_should_be_gets_nothing(self) -> None:
        """service-identity: a certificate for another name ends the connection before a byte of the client's."""
        credential = self.ca.issue(["other.example"])
        heard: list[bytes] = []
        backend = Backend(self, secured(lambda sock: heard.append(sock.recv(10)), credential, self.directory))
        ca_file = self.directory / "internal-ca" / "ca.pem"
        port = self.port()
        upstream = UpstreamTls(ca=ca_file, server_name="inner.example")
        tls = RouteTls(mode="terminate-and-reencrypt", upstream=upstream)
        self.open(
            route("reencrypt", port, backend.target, tls=tls, domains=("r.example",)),
            ca_files={str(ca_file): ca_file.read_bytes()},
        )
        self.assertEqual(self.ask_tls(port, "r.example", b"secret"), b"")
        self.assertIn("not for inner.example", self.event().reason)
        self.assertNotIn(b"secret", b"".join(heard))

    def test_without_sni_the_first_terminating_route_answers(self) -> None:
        plain, other = Backend(self, says(b"first")), Backend(self, says(b"second"))
        port = self.port()
        self.open(
            route("pass", port, other.target, tls="passthrough", domains=("p.example",)),
            route("first", port, plain.target, tls="terminate", domains=("a.example",)),
            route("second", port, other.target, tls="terminate", domains=("b.example",)),
        )
        self.assertEqual(self.ask_tls(port, None, b"x"), b"first")

    def test_a_port_with_one_certificate_for_every_name(self) -> None:
        """Its handshake begins without a look at the hello; the event knows the name all the same."""
        authority = Authority()
        certificate = authority.files(self.directory, ["own.example"])
        ca = self.directory / "authority.pem"
        ca.write_bytes(authority.root_pem)
        tls = RouteTls(mode="terminate", certificate=certificate)
        port, named = self.port(), self.port()
        backend = Backend(self, says(b"in"))
        self.open(
            route("any", port, backend.target, tls=tls),
            route("named", named, backend.target, tls=tls, domains=("own.example",)),
        )
        for door, phases in ((port, ["tls", "connect", "relay"]), (named, ["hello", "tls", "connect", "relay"])):
            self.assertEqual(self.ask_tls(door, "own.example", b"x", ca=ca), b"in")
            event = self.event()
            self.assertEqual((event.sni, list(event.phases)), ("own.example", phases))
        self.assertEqual(self.ask(port, b"GET / HTTP/1.0\r\n\r\n"), b"")
        self.assertIn("TLS handshake", self.event().reason)

    def test_a_name_that_no_route_has_gets_an_alert(self) -> None:
        port = self.port()
        self.open(route("only", port, Respond(), tls="terminate", domains=("a.example",)))
        with self.assertRaises(ssl.SSLError) as caught:
            self.ask_tls(port, "b.example", b"x")
        self.assertIn("UNRECOGNIZED_NAME", str(caught.exception).upper())
        event = self.event()
        self.assertEqual((event.sni, event.reason), ("b.example", "no route for b.example"))
        self.assertEqual(event.ended_by, "router")
        self.assertEqual(len(ALERT_UNRECOGNIZED_NAME), 7)

    def test_a_hello_in_single_bytes_and_in_many_records_finds_its_route(self) -> None:
        """Split at every byte; and re-framed into records of one byte each."""
        credential = self.ca.issue(["app.example"])
        port = self.port()
        backend = Backend(self, secured(says(b"found"), credential, self.directory))
        self.open(route("pass", port, backend.target, tls="passthrough", domains=("app.example",)))
        context = ssl.create_default_context(cafile=str(self.directory / "internal-ca" / "ca.pem"))

        def talk(send: list[bytes] | None, size: int) -> bytes:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            session = context.wrap_bio(incoming, outgoing, server_hostname="app.example")
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    session.do_handshake()
                except ssl.SSLWantReadError:
                    hello = outgoing.read()
                if send is not None:
                    body = hello[5:]
                    hello = b"".join(
                        hello[:3] + len(part).to_bytes(2, "big") + part
                        for part in (body[at : at + 7] for at in range(0, len(body), 7))
                    )
                for at in range(0, len(hello), size):
                    sock.sendall(hello[at : at + size])
                while True:
                    try:
                        session.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        sock.sendall(outgoing.read())
                        incoming.write(sock.recv(65536))
                session.write(b"x")
                sock.sendall(outgoing.read())
                while True:
                    try:
                        return session.read(100)
                    except ssl.SSLWantReadError:
                        incoming.write(sock.recv(65536))

        self.assertEqual(self.client(lambda: talk(None, 1)), b"found")
        self.assertEqual(self.client(lambda: talk([], 100)), b"found")

    def test_garbage_instead_of_a_hello_gets_an_alert_and_no_target(self) -> None:
        backend = Backend(self, echo)
        port = self.port()
        self.open(route("pass", port, backend.target, tls="passthrough", domains=("a.example",)))
        self.assertEqual(self.ask(port, b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff"), b"\x15\x03\x03\x00\x02\x02\x32")
        self.assertEqual(self.ask(port, b"GET / HTTP/1.0\r\n\r\n"), b"")
        self.assertEqual(backend.connections, 0)

    def test_a_bare_fin_ends_both_directions_of_a_terminated_session(self) -> None:
        """Nobody knows whether something is missing: the target gets a reset, no clean end."""
        ends: list[str] = []

        def watch(sock: socket.socket) -> None:
            try:
                read_all(sock)
                ends.append("clean")
            except ConnectionResetError:
                ends.append("reset")

        backend = Backend(self, watch)
        port = self.port()
        self.open(route("t", port, backend.target, tls="terminate", domains=("t.example",)))
        context = ssl.create_default_context(cafile=str(self.directory / "internal-ca" / "ca.pem"))

        def run() -> None:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                session = context.wrap_socket(sock, server_hostname="t.example", do_handshake_on_connect=True)
                session.sendall(b"some of it")
                os.close(session.detach())

        self.client(run)
        self.loop.until(lambda: ends)
        self.assertEqual(ends, ["reset"])
        self.assertEqual(self.event().ended_by, "client")

    def test_alpn_is_spoken_on_http_routes_only(self) -> None:
        port, other = self.port(), self.port()
        plain = Backend(self, says(b"x"))
        self.open(
            route("http", port, Respond(body="x"), tls="terminate", domains=("h.example",)),
            route("tcp", other, plain.target, tls="terminate", domains=("t.example",)),
        )
        self.ask_tls(port, "h.example", REQUEST % b"h.example", ["h2", "http/1.1"])
        self.assertEqual(self.event().alpn, "http/1.1")
        self.ask_tls(other, "t.example", b"x", ["h2", "http/1.1"])
        self.assertEqual(self.event().alpn, None)

    def test_a_client_that_speaks_another_protocol_is_told(self) -> None:
        """RFC 7301 3.2: by an alert, before it takes our HTTP/1.1 for its own."""
        port = self.port()
        self.open(route("http", port, Respond(body="x"), tls="terminate", domains=("h.example",)))
        with self.assertRaises(ssl.SSLError) as caught:
            self.ask_tls(port, "h.example", REQUEST % b"h.example", ["h2", "spdy/3"])
        self.assertIn("no application protocol", str(caught.exception))
        event = self.event()
        self.assertEqual((event.ended_by, event.termination), ("client", "client:tls"))
        self.assertEqual(event.reason, "TLS handshake: the client speaks h2, spdy/3 (ALPN), not http/1.1")


class SecurityTests(EdgeTest):
    def test_allow_and_block(self) -> None:
        backend = Backend(self, says(b"in"))
        port = self.port()
        security = Security(allow=(ip_network("127.0.0.0/29"),), block=(ip_network("127.0.0.3/32"),))
        self.open(route("web", port, backend.target, security=security))
        self.assertEqual(self.ask(port, b"x", "127.0.0.2"), b"in")
        self.assertTrue(self.is_reset(port, b"", "127.0.0.3"))
        self.assertTrue(self.is_reset(port, b"", "127.0.0.9"))
        self.assertEqual([self.event().reason for _ in range(3)], ["closed", "blocked", "not allowed"])

    def test_counters_count_and_count_down(self) -> None:
        """max_connections and max_connections_per_ip of a route, and those of the defaults over all routes."""
        backend = Backend(self, echo)
        one, two, third = self.port(), self.port(), self.port()
        self.open(
            route("one", one, backend.target, security=Security(max_connections_per_ip=1)),
            route("two", two, backend.target, security=Security(max_connections=1)),
            route("third", third, backend.target),
            defaults=Defaults(security=Security(max_connections=3)),
        )

        def works(port: int, source: str) -> bool:
            sock = socket.create_connection(("127.0.0.1", port), 30, (source, 0))
            self.addCleanup(sock.close)
            try:
                sock.sendall(b"x")
                if self.loop.received(sock) != b"x":
                    return False
            except ConnectionError:
                return False
            self.open_now.append(sock)
            return True

        self.open_now: list[socket.socket] = []
        self.assertTrue(works(one, "127.0.0.2"))
        self.assertFalse(works(one, "127.0.0.2"))
        self.assertTrue(works(one, "127.0.0.3"))
        self.assertTrue(works(two, "127.0.0.2"))
        self.assertFalse(works(two, "127.0.0.3"))
        self.assertFalse(works(third, "127.0.0.3"))
        reasons = {event.reason for event in self.events}
        self.assertEqual(reasons, {"max_connections_per_ip", "max_connections"})
        for sock in self.open_now:
            sock.close()
        self.loop.until(lambda: self.edge.status()["active"] == 0)
        self.open_now.clear()
        self.assertTrue(works(one, "127.0.0.2"))
        self.assertTrue(works(two, "127.0.0.2"))


class ProxyProtocolTests(EdgeTest):
    def entries(self) -> tuple[ProxyProtocol, ...]:
        return (ProxyProtocol(from_=(ip_network("127.0.0.2/32"),), timeout=1.0),)

    def test_the_header_is_taken_out_at_every_split(self) -> None:
        """v1 and v2, cut at every byte: the peer is the one behind it, and the target gets exactly what follows."""
        backend = Backend(self, echo)
        port = self.port()
        self.open(route("web", port, backend.target), proxy_protocol=self.entries())
        source, destination = ("203.0.113.9", 4711), ("198.51.100.1", 443)
        for header in (build_v1(source, destination), build_v2(source, destination)):
            for cut in range(1, len(header) + 1, 3):
                sock = socket.create_connection(("127.0.0.1", port), 30, ("127.0.0.2", 0))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall(header[:cut])
                self.loop.turn()
                sock.sendall(header[cut:] + b"payload")
                self.assertEqual(self.loop.received(sock), b"payload")
                sock.close()
                event = self.event()
                self.assertEqual((event.peer, event.via), (source, "127.0.0.2"))

    def test_a_listed_peer_without_a_header_is_not_let_in(self) -> None:
        backend = Backend(self, echo)
        port = self.port()
        self.open(route("web", port, backend.target), proxy_protocol=self.entries())
        self.assertEqual(self.ask(port, b"GET / HTTP/1.1\r\n\r\n", "127.0.0.2"), b"")
        self.assertEqual(backend.connections, 0)

    def test_from_others_a_header_is_never_interpreted(self) -> None:
        backend = Backend(self, echo)
        port = self.port()
        self.open(route("web", port, backend.target), proxy_protocol=self.entries())
        header = build_v1(("203.0.113.9", 4711), ("198.51.100.1", 443))

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                sock.sendall(header)
                return sock.recv(1000)

        self.assertEqual(self.client(run), header)
        self.assertEqual(self.event().peer[0], "127.0.0.1")

    def test_limits_count_the_address_behind_the_header(self) -> None:
        backend = Backend(self, echo)
        port = self.port()
        security = Security(block=(ip_network("203.0.113.9/32"),))
        self.open(route("web", port, backend.target, security=security), proxy_protocol=self.entries())
        header = build_v2(("203.0.113.9", 4711), ("198.51.100.1", 443))
        self.assertEqual(self.ask(port, header + b"x", "127.0.0.2"), b"")
        self.assertEqual(self.event().reason, "blocked")


class MailTests(EdgeTest):
    def test_a_mail_connection_is_handed_over_with_its_facts(self) -> None:
        """The socket arrives whole, with who it is; the counters stay entered until mail reports its end."""
        port = self.port()
        edge = self.open(
            route("smtp", port, MailHandover(kind="smtp"), security=Security(max_connections=1)),
        )
        ours, theirs = socket.socketpair()
        arrived: list[tuple[ConnectionFacts, socket.socket]] = []
        receiver = Channel(
            self.loop.reactor,
            theirs,
            lambda kind, fields, fds: arrived.append(
                (ConnectionFacts.from_plain(fields), socket.socket(fileno=fds[0]))
            ),
            lambda reason: None,
        )
        sender = Channel(self.loop.reactor, ours, lambda kind, fields, fds: None, lambda reason: None)
        self.addCleanup(sender.close)
        self.addCleanup(receiver.close)
        client = socket.create_connection(("127.0.0.1", port), 30)
        self.addCleanup(client.close)
        self.loop.turn()
        self.assertEqual(edge.accepted, 0, "while mail is down its listeners are paused")
        edge.mail.meet(sender)
        self.loop.until(lambda: edge.accepted)
        receiver.doRead()
        facts, sock = arrived.pop()
        self.addCleanup(sock.close)
        self.assertEqual((facts.kind, facts.route, facts.peer), ("smtp", "smtp", client.getsockname()))
        self.assertEqual(facts.local, ("127.0.0.1", port))
        sock.sendall(b"220 hello\r\n")
        self.assertEqual(self.loop.received(client), b"220 hello\r\n")
        self.assertEqual(self.events, [])
        with socket.create_connection(("127.0.0.1", port), 30) as second:
            self.assertRaises(ConnectionResetError, self.loop.received_all, second)
        edge.mail.closed(facts.session)
        with socket.create_connection(("127.0.0.1", port), 30):
            self.loop.until(lambda: edge.accepted == 3)
            self.assertEqual(len(arrived), 0)
            receiver.doRead()
            self.assertEqual(len(arrived), 1)
        arrived[0][1].close()

    def test_a_slow_mail_process_pauses_its_listeners_until_it_has_caught_up(self) -> None:
        """However long that takes: one look after a pause would leave the port dead for good."""
        self.patch(taker, "HANDOVERS", 2)
        port = self.port()
        edge = self.open(route("smtp", port, MailHandover(kind="smtp")))
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        arrived: list[int] = []
        receiver = Channel(
            self.loop.reactor, theirs, lambda kind, fields, fds: arrived.extend(fds), lambda reason: None
        )
        sender = Channel(self.loop.reactor, ours, lambda kind, fields, fds: None, lambda reason: None)
        self.addCleanup(sender.close)
        self.addCleanup(receiver.close)
        edge.mail.meet(sender)
        clients = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(40)]
        self.loop.until(lambda: not edge._listeners[0].listening)
        for _ in range(10):
            self.loop.reactor.advance(0.1)
        self.assertFalse(edge._listeners[0].listening)

        def all_arrived() -> bool:
            self.loop.reactor.advance(0.1)
            if sender.waiting:
                sender.doWrite()
            receiver.doRead()
            return len(arrived) == len(clients)

        self.loop.until(all_arrived)
        self.assertTrue(edge._listeners[0].listening)
        for fd in arrived:
            os.close(fd)
        for client in clients:
            client.close()

    def test_the_end_of_the_mail_process_frees_its_counters(self) -> None:
        port = self.port()
        edge = self.open(route("smtp", port, MailHandover(kind="smtp")))
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        sender = Channel(self.loop.reactor, ours, lambda kind, fields, fds: None, lambda reason: None)
        self.addCleanup(sender.close)
        edge.mail.meet(sender)
        with socket.create_connection(("127.0.0.1", port), 30):
            self.loop.until(lambda: edge.status()["handed_over"])
            edge.mail.meet(None)
            self.assertEqual(edge.status()["handed_over"], 0)
            self.assertEqual(edge.status()["routes"]["smtp"]["active"], 0)


class CountTests(EdgeTest):
    def test_what_was_no_request_is_counted_too(self) -> None:
        """A head that is broken, or has no end: the line of the access log says how much has come."""
        port = self.port()
        self.open(route("page", port, Respond(body="x")))
        good = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        for before in (b"", good, good * 2):
            for broken in (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"GET / HTTP/1.1\r\nHo"):
                for pieces in ([before + broken], [before, broken[:9], broken[9:]]):
                    sent = [piece for piece in pieces if piece]

                    def run(sent: list[bytes] = sent) -> None:
                        with socket.create_connection(("127.0.0.1", port), 30) as sock:
                            for piece in sent:
                                sock.sendall(piece)
                            sock.shutdown(socket.SHUT_WR)
                            read_all(sock)

                    self.client(run)
                    self.assertEqual(self.event().bytes_in, len(before + broken), sent)


class RestTests(EdgeTest):
    def test_rests_for_want_of_descriptors_are_told_once_a_minute(self) -> None:
        """Ten times a second it may be, for hours: all are counted, and the log stays readable."""
        heard = logged(self)
        edge = self.open(route("web", self.port(), Respond()))
        for told, seconds in ((1, 20.0), (1, 20.0), (2, 30.0)):
            began = edge.pauses
            for _ in range(10):
                edge.exhausted(OSError(errno.EMFILE, "Too many open files"))
                self.loop.pass_time(seconds / 10)
            self.assertEqual(edge.pauses, began + 10)
            lines = [event for event in heard if event.get("cause") == "Too many open files"]
            self.assertEqual(len(lines), told)


class DrainTests(EdgeTest):
    def test_no_drain_timeout_is_no_limit(self) -> None:
        """0s is none, here as everywhere."""
        backend = Backend(self, echo)
        port = self.port()
        edge = self.open(route("web", port, backend.target, timeouts=Timeouts(drain=0.0)))
        client = socket.create_connection(("127.0.0.1", port), 30)
        client.sendall(b"before")
        self.assertEqual(self.loop.received(client), b"before")
        drained: list[object] = []
        edge.drain().addCallback(drained.append)
        for _ in range(5):
            self.loop.reactor.advance(0.1)
            self.loop.turn()
        client.sendall(b"still here")
        self.assertEqual(self.loop.received(client), b"still here")
        self.assertEqual(drained, [])
        client.close()

        def over() -> bool:
            self.loop.reactor.advance(0.1)
            return bool(drained)

        self.loop.until(over)

    def test_drain_lets_connections_end_and_then_closes_them(self) -> None:
        """New ones are refused at once; running ones have timeouts.drain of their route."""
        backend = Backend(self, echo)
        port = self.port()
        edge = self.open(route("web", port, backend.target, timeouts=Timeouts(drain=3.0)))
        client = socket.create_connection(("127.0.0.1", port), 30)
        self.addCleanup(client.close)
        client.sendall(b"before")
        self.assertEqual(self.loop.received(client), b"before")
        drained: list[object] = []
        edge.drain().addCallback(drained.append)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port), 5)
        client.sendall(b"still here")
        self.assertEqual(self.loop.received(client), b"still here")
        self.assertEqual(drained, [])

        def over() -> bool:
            self.loop.reactor.advance(0.1)
            return bool(drained)

        self.loop.until(over)
        self.assertEqual(self.loop.received(client), b"")
        self.assertEqual(self.event().reason, "drained")
