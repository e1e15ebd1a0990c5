"""Bytes that must arrive as they were sent: large, slow, both ways at once, and after one side has ended."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import struct
import threading
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.support.edge import Backend, echo
from tests.support.peers import require
from tests.support.programs import Nginx
from tests.support.router import Router, both_ends, resident
from tests.support.shell import run

TEXT = """
routes:
  - name: plain
    match: {ports: $plain}
    action: {type: forward, target: {host: 127.0.0.1, port: $plain_backend}}
  - name: through
    match: {ports: $tls, domains: [www.example.test]}
    tls: {mode: passthrough}
    action: {type: forward, target: {host: 127.0.0.1, port: $tls_backend}}
  - name: ended
    match: {ports: $tls, domains: [ended.example.test]}
    tls: {mode: terminate}
    action: {type: forward, target: {host: 127.0.0.1, port: $plain_backend}}
  - name: again
    match: {ports: $tls, domains: [again.example.test]}
    tls: {mode: terminate-and-reencrypt, upstream: {server_name: www.example.test, ca: $ca}}
    action: {type: forward, target: {host: 127.0.0.1, port: $tls_backend}}
"""
ECHO = """
routes:
  - name: echo
    match: {ports: $echo}
    action: {type: forward, target: {host: 127.0.0.1, port: $echo_backend}}
  - name: echo-tls
    match: {ports: $echo_tls}
    tls: {mode: terminate}
    action: {type: forward, target: {host: 127.0.0.1, port: $echo_backend}}
"""
BIG = 100 << 20
WAYS = {
    "plain": "http://localhost:plain/big",
    "through": "https://www.example.test:tls/big",
    "ended": "https://ended.example.test:tls/big",
    "again": "https://again.example.test:tls/big",
}


class BytesCase(SynchronousTestCase):
    router: Router
    nginx: Nginx
    digest: str

    @classmethod
    def setUpClass(cls) -> None:
        cls.nginx = Nginx("www.example.test")
        cls.addClassCleanup(cls.nginx.close)
        digest = hashlib.sha256()
        with (cls.nginx.data / "big").open("wb") as file:
            for _ in range(BIG >> 20):
                some = os.urandom(1 << 20)
                file.write(some)
                digest.update(some)
        cls.digest = digest.hexdigest()
        cls.router = Router(
            TEXT,
            ports=("plain", "tls"),
            plain_backend=cls.nginx.port,
            tls_backend=cls.nginx.tls,
            ca=cls.nginx.ca,
        )
        cls.addClassCleanup(cls.router.close)

    def url(self, way: str) -> str:
        url = WAYS[way]
        for name, port in self.router.ports.items():
            url = url.replace(f":{name}/", f":{port}/")
        return url

    def curl(self, *options: str) -> bytes:
        """Like a user who trusts whoever answers: certificates are another test's."""
        argv = [require("curl"), "-sS", "-k", "--fail", "--max-time", "200", "--connect-to", "::127.0.0.1:", *options]
        return run(argv)


class _Class:
    """A class's clean-up where a test's is expected."""

    def __init__(self, case: type[SynchronousTestCase]) -> None:
        self.addCleanup = case.addClassCleanup


class TestBulk(BytesCase):
    def test_a_hundred_megabytes_arrive_as_they_are(self) -> None:
        """In every mode, to the last byte; and the access log has counted them."""
        for way in WAYS:
            target = self.router.base / "big"
            port = self.curl("--http1.1", "-o", str(target), "--write-out", "%{local_port}", self.url(way))
            with target.open("rb") as file:
                self.assertEqual(hashlib.file_digest(file, "sha256").hexdigest(), self.digest, way)
            (line,) = self.router.access(route=way, peer=["127.0.0.1", int(port)])
            self.assertGreater(line["bytes_out"], BIG)
            self.assertLess(line["bytes_out"], BIG * 1.01)

    def test_many_requests_of_http2_share_a_passed_through_connection(self) -> None:
        """curl, eight at once over HTTP/2."""
        url = self.url("through").replace("/big", "/hello")
        said = self.curl("--http2", "--parallel", *[url] * 8).decode()
        self.assertEqual(said.count("hello over HTTP/2.0"), 8, said)

    def test_a_hundred_megabytes_are_taken(self) -> None:
        """An upload by PUT, plain and terminated."""
        for way in ("plain", "ended"):
            self.curl("--http1.1", "-T", str(self.nginx.data / "big"), self.url(way).replace("/big", f"/up/{way}"))
            with (self.nginx.data / "up" / way).open("rb") as file:
                self.assertEqual(hashlib.file_digest(file, "sha256").hexdigest(), self.digest, way)

    def test_a_slow_reader_holds_nothing_up_and_nothing_in_memory(self) -> None:
        """A client that does not read stops its own download only; what it has not read stays with the backend."""
        edge = self.router.pids()["edge"]
        before = resident(edge)
        with contextlib.ExitStack() as stack:
            slow = []
            for way in ("plain", "ended") * 5:
                sock = stack.enter_context(self.router.connect("plain" if way == "plain" else "tls"))
                if way == "ended":
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    context.check_hostname = False
                    context.verify_mode = ssl.CERT_NONE
                    sock = stack.enter_context(context.wrap_socket(sock, server_hostname="ended.example.test"))
                sock.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                sock.recv(1)
                slow.append(sock)
            hello = self.url("plain").replace("/big", "/hello")
            self.assertIn(b"hello", self.curl(hello))
            self.assertLess(resident(edge) - before, 16 << 20)
            left = hashlib.sha256()
            count = 0
            while some := slow[1].recv(1 << 16):
                left.update(some)
                count += len(some)
            self.assertGreater(count, BIG)


class TestLongLived(SynchronousTestCase):
    router: Router

    @classmethod
    def setUpClass(cls) -> None:
        backend = Backend(_Class(cls), echo)
        cls.router = Router(ECHO, ports=("echo", "echo_tls"), echo_backend=backend.port)
        cls.addClassCleanup(cls.router.close)

    def client(self, secure: bool) -> socket.socket:
        """A connection to the backend that gives everything back."""
        if not secure:
            return self.router.connect("echo")
        context = ssl.create_default_context(cafile=str(self.router.state / "internal-ca" / "ca.pem"))
        return context.wrap_socket(self.router.connect("echo_tls"), server_hostname="localhost")

    def test_both_sides_talk_whenever_they_like(self) -> None:
        """As WebSockets do: an upgrade, then small frames in either direction with pauses in between, plain and TLS."""
        for secure in (False, True):
            with self.client(secure) as client:
                for size in (1, 2, 125, 126, 65535, 65536, 200000, 1, 16384, 16385):
                    frame = os.urandom(size)
                    client.sendall(frame)
                    self.assertEqual(_read(client, size), frame)
                    time.sleep(0.01)

    def test_both_directions_at_once(self) -> None:
        """30 MB each way at the same time, with a writer that does not wait for its reader."""
        for secure in (False, True):
            data = os.urandom(1 << 20) * 30
            with self.client(secure) as client:
                got = _echoed(client, data)
                self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(data).digest())

    def test_a_half_closed_connection_still_delivers(self) -> None:
        """The client ends its side first: everything it sent comes back, and then the end."""
        data = os.urandom(3 << 20)
        with self.router.connect("echo") as client:
            threading.Thread(target=_send_and_finish, args=(client, data)).start()
            self.assertEqual(_read_all(client), data)

    def test_a_reset_reaches_the_other_side(self) -> None:
        """A client that vanishes with a RST is not taken for one that ended regularly: its line says so."""
        client = self.router.connect("echo")
        ends = both_ends(client)
        client.sendall(b"x")
        client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        (line,) = self.router.access(**ends)
        self.assertEqual(line["ended_by"], "client")
        self.assertEqual((line["bytes_in"], line["bytes_out"]), (1, 1))
        self.assertIn("reset", line["reason"])


def _read(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (some := sock.recv(size - len(data))):
        data += some
    return bytes(data)


def _read_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while some := sock.recv(1 << 16):
        data += some
    return bytes(data)


def _send_and_finish(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def _echoed(sock: socket.socket, data: bytes) -> bytes:
    """What comes back while `data` is sent, in one thread and without ever waiting for only one of both."""
    sock.setblocking(False)
    got = bytearray()
    rest = memoryview(data)
    end = time.monotonic() + 120
    while len(got) < len(data):
        assert time.monotonic() < end, f"{len(rest)} to send, {len(got)} received"
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            rest = rest[sock.send(rest[: 1 << 18]) :] if rest else rest
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            got += sock.recv(1 << 18)
    return bytes(got)
