"""Clients that vanish, in every phase and by the thousand: afterwards the edge is as it was before."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import struct
import time
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.support.edge import Backend, echo, read_all
from tests.support.hello import client_hello
from tests.support.router import Router, both_ends, descriptors, resident, sockets, until
from tests.support.threaded import Talk

TEXT = """
defaults: {timeouts: {hello: 30s, connect: 2s}}
proxy_protocol: [{from: [127.0.0.1/32], ports: [$proxied], timeout: 30s}]
routes:
  - name: through
    match: {ports: [$tls, $proxied], domains: [www.example.test]}
    tls: {mode: passthrough}
    action: {type: forward, target: {host: 127.0.0.1, port: $echo}}
  - name: ended
    match: {ports: $tls, domains: [ended.example.test]}
    tls: {mode: terminate}
    action: {type: forward, target: {host: 127.0.0.1, port: $flood}}
  - name: plain
    match: {ports: $plain}
    action: {type: forward, target: {host: 127.0.0.1, port: $echo}}
  - name: flood
    match: {ports: $bulk}
    action: {type: forward, target: {host: 127.0.0.1, port: $flood}}
  - name: nowhere
    match: {ports: $nowhere}
    action: {type: forward, target: {host: 127.0.0.1, port: $full}}
  - name: patient
    match: {ports: $patient}
    timeouts: {connect: 60s}
    action: {type: forward, target: {host: 127.0.0.1, port: $full}}
  - name: page
    match: {ports: $http}
    action: {type: respond, body: "a page"}
"""
ROUNDS = 150
"""Connections of each kind; there are 16 kinds."""
AT_ONCE = 50
"""Of them open at the same time."""
KEPT = 1 << 20
"""Bytes that a round may leave: 440 for each of its 2 400 connections would be more."""
MOST_ROUNDS = 8
"""One of them has to leave less than `KEPT`."""


def flood(sock: socket.socket) -> None:
    """A talk: sends for ever."""
    some = bytes(1 << 16)
    with contextlib.suppress(OSError):
        while True:
            sock.sendall(some)


def answered(data: bytes) -> Talk:
    """A client that says this and has the first octet of its answer."""

    def act(sock: socket.socket) -> None:
        sock.sendall(data)
        sock.recv(1)

    return act


def half_closed(sock: socket.socket) -> None:
    """A client that has said all that it will."""
    sock.sendall(b"x")
    sock.shutdown(socket.SHUT_WR)


class Full:
    """A listening socket whose queue is full, so that a connect to it hangs: SYNs are dropped (listen(2))."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self.listener.getsockname()[1]
        self._fill = [socket.socket() for _ in range(4)]
        for sock in self._fill:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", self.port))

    def close(self) -> None:
        for sock in (*self._fill, self.listener):
            sock.close()


class _Class:
    def __init__(self, case: type[SynchronousTestCase]) -> None:
        self.addCleanup = case.addClassCleanup


class TestCuts(SynchronousTestCase):
    router: Router
    kinds: dict[str, tuple[str, Talk]]

    @classmethod
    def setUpClass(cls) -> None:
        full = Full()
        cls.addClassCleanup(full.close)
        cls.router = Router(
            TEXT,
            ports=("tls", "plain", "bulk", "nowhere", "patient", "http", "proxied"),
            expected=["cannot connect to"],
            echo=Backend(_Class(cls), echo).port,
            flood=Backend(_Class(cls), flood).port,
            full=full.port,
        )
        cls.addClassCleanup(cls.router.close)
        hello, ended = client_hello("www.example.test"), client_hello("ended.example.test")
        cls.kinds = {
            "connected": ("plain", lambda sock: None),
            "before a hello": ("tls", lambda sock: None),
            "within a hello": ("tls", lambda sock: sock.sendall(hello[:100])),
            "within a record's head": ("tls", lambda sock: sock.sendall(hello[:3])),
            "within a PROXY header": ("proxied", lambda sock: sock.sendall(b"PROXY TCP4 192.0.2.1 19")),
            "within a binary PROXY header": ("proxied", lambda sock: sock.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0")),
            "behind a PROXY header": ("proxied", lambda sock: sock.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")),
            "within a request": ("http", lambda sock: sock.sendall(b"GET / HTTP/1.1\r\nHost: x")),
            "behind a request": ("http", lambda sock: sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
            "within a handshake": ("tls", lambda sock: sock.sendall(ended)),
            "behind a handshake's answer": ("tls", answered(ended)),
            "passed through": ("tls", answered(hello)),
            "within a transfer": ("plain", answered(b"x" * 50000)),
            "within a download": ("bulk", lambda sock: sock.recv(100000)),
            "half closed": ("plain", half_closed),
            "within a connect": ("nowhere", lambda sock: None),
        }

    def cut(self, kind: str, count: int, reset: bool) -> None:
        """`count` connections of a kind, closed by FIN or RST when they are there."""
        port, act = self.kinds[kind]
        while count > 0:
            some = [self.router.connect(port) for _ in range(min(count, AT_ONCE))]
            for sock in some:
                act(sock)
            for sock in some:
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            count -= len(some)

    def round(self, edge: int, files: int, reset: bool) -> int:
        """All kinds, and by how many bytes the edge's memory grew."""
        before = resident(edge)
        for kind in self.kinds:
            self.cut(kind, ROUNDS, reset)
        until(self.quiet)
        until(lambda: sockets(edge) == files)
        return resident(edge) - before

    def quiet(self) -> bool:
        """No session is left."""
        return self.router.counters("edge").get("active") == 0

    def test_thousands_cut_in_every_phase_leave_nothing(self) -> None:
        """Descriptors are back at the start, memory does not grow from round to round, and the service goes on."""
        edge = self.router.pids()["edge"]
        for kind in self.kinds:  # what is made once and kept: pipes, contexts, buffers
            self.cut(kind, AT_ONCE, reset=False)
        until(self.quiet)
        files = sockets(edge)
        grown = [self.round(edge, files, reset) for reset in (False, True)]
        while min(grown) > KEPT and len(grown) < MOST_ROUNDS:  # a heap settles; what leaks grows in every round
            grown.append(self.round(edge, files, reset=True))
        self.assertLess(min(grown), KEPT, grown)
        self.assertEqual(self.router.pids()["edge"], edge)
        with self.router.connect("http") as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertIn(b"a page", read_all(client))

    def test_nobody_is_connected_for_who_has_gone(self) -> None:
        """A client that resets while its target does not answer ends that attempt, and is the one who ended it."""
        client = self.router.connect("patient")
        ends = both_ends(client)
        until(lambda: self.router.counters("edge")["active"])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        (line,) = self.router.access(**ends)
        self.assertEqual((line["ended_by"], line["reason"]), ("client", "gone before the target answered"))


class TestHellos(SynchronousTestCase):
    router: Router

    @classmethod
    def setUpClass(cls) -> None:
        cls.router = Router(
            """
routes:
  - name: through
    match: {ports: $tls, domains: [www.example.test]}
    tls: {mode: passthrough}
    action: {type: forward, target: {host: 127.0.0.1, port: $echo}}
  - name: ended
    match: {ports: $tls, domains: [ended.example.test]}
    tls: {mode: terminate}
    action: {type: respond, body: "a page"}
""",
            ports=("tls",),
            echo=Backend(_Class(cls), echo).port,
        )
        cls.addClassCleanup(cls.router.close)

    def send_in_pieces(self, data: bytes, size: int) -> socket.socket:
        """A connection on which every piece was a segment of its own."""
        sock = self.router.connect("tls")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), size):
            sock.sendall(data[start : start + size])
            time.sleep(0.0005)
        return sock

    def test_a_hello_in_small_segments_finds_its_route(self) -> None:
        """Byte by byte and in pieces of 7: what is passed through is the hello as it was sent."""
        hello = client_hello("www.example.test")
        for size in (1, 7):
            with self.send_in_pieces(hello, size) as sock:
                self.assertEqual(_read(sock, len(hello)), hello)

    def test_a_hello_in_many_records_finds_its_route(self) -> None:
        """Records of 1 and of 50 bytes, in small segments too (RFC 8446 5.1)."""
        hello = client_hello("www.example.test")
        handshake = hello[5:]
        for record in (1, 50):
            framed = b"".join(
                b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
                for part in (handshake[at : at + record] for at in range(0, len(handshake), record))
            )
            with self.send_in_pieces(framed, 333) as sock:
                self.assertEqual(_read(sock, len(framed)), framed)

    def test_a_handshake_in_small_segments_succeeds(self) -> None:
        """A whole session whose client writes three bytes at a time."""
        context = ssl.create_default_context(cafile=str(self.router.state / "internal-ca" / "ca.pem"))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing, server_hostname="ended.example.test")

        with self.router.connect("tls") as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def do(act: Callable[[], object]) -> object:
                while True:
                    wants = False
                    result: object = None
                    try:
                        result = act()
                    except ssl.SSLWantReadError:
                        wants = True
                    data = outgoing.read()
                    for start in range(0, len(data), 3):
                        sock.sendall(data[start : start + 3])
                    if not wants:
                        return result
                    incoming.write(sock.recv(4096))

            do(session.do_handshake)
            do(lambda: session.write(b"GET / HTTP/1.1\r\nHost: ended.example.test\r\nConnection: close\r\n\r\n"))
            self.assertIn(b"200 OK", do(lambda: session.read(4096)))


class TestFewDescriptors(SynchronousTestCase):
    def test_more_connections_than_descriptors_wait_and_are_served(self) -> None:
        """With 200 open files, 600 clients: nobody is turned away, the log stays short, and all are answered."""
        router = Router(
            """
routes:
  - name: plain
    match: {ports: $plain}
    action: {type: forward, target: {host: 127.0.0.1, port: $echo}}
""",
            ports=("plain",),
            expected=["out of descriptors", "cannot connect to"],
            descriptors=200,
            echo=Backend(self, echo).port,
        )
        self.addCleanup(router.close)
        edge = router.pids()["edge"]
        files = descriptors(edge)
        clients = [router.connect("plain") for _ in range(600)]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        until(lambda: router.counters("edge")["pauses"])
        self.assertLess(descriptors(edge), 200)
        answered = 0
        for number, client in enumerate(clients):  # as one leaves, another gets in
            self.assertEqual(client.recv(100), b"%d" % number)
            client.close()
            answered += 1
        self.assertEqual(answered, 600)
        until(lambda: descriptors(edge) <= files + 4)
        self.assertLess(len(router.log()), 40)
        self.assertEqual(router.pids()["edge"], edge)

    def test_descriptors_that_really_run_out_pause_the_listener(self) -> None:
        """The edge's own files are used up by somebody: it waits, says so, and goes on when there are some again."""
        router = Router(
            """
routes:
  - name: plain
    match: {ports: $plain}
    action: {type: forward, target: {host: 127.0.0.1, port: $echo}}
""",
            ports=("plain",),
            expected=["out of descriptors", "cannot connect to"],
            echo=Backend(self, echo).port,
        )
        self.addCleanup(router.close)
        edge = router.pids()["edge"]
        low = descriptors(edge) + 30
        resource.prlimit(edge, resource.RLIMIT_NOFILE, (low, low))
        clients = [router.connect("plain") for _ in range(200)]
        until(lambda: router.said("out of descriptors"))
        for client in clients:
            client.close()

        def serves() -> bool:
            with contextlib.suppress(OSError), router.connect("plain", 5) as client:
                client.sendall(b"hello")
                return client.recv(100) == b"hello"
            return False

        until(serves)
        self.assertEqual(router.pids()["edge"], edge)
        self.assertLess(len(router.log()), 40)


def _read(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (some := sock.recv(size - len(data))):
        data += some
    return bytes(data)
