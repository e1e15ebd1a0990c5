"""A client's last flight of TLS 1.3 is answered at once, by the ticket, which carries its acknowledgement: until that
comes, Nagle's algorithm (RFC 9293 section 3.7.4) holds the request back, and alone it may be 40 ms late.
"""

from __future__ import annotations

import fcntl
import os
import socket
import ssl
import struct

from dcrouter.config.actions import Respond
from dcrouter.config.routes import Route
from tests.support.edge import Backend, EdgeTest, answers, echo, route
from tests.support.loop import Loop

REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
SIOCOUTQNSD = 0x894B
"""How many bytes were written to a socket and have not left yet (linux/sockios.h)."""


class Client:
    """One without TCP_NODELAY, which speaks when it is told to; `loop` turns the edge while it waits."""

    def __init__(self, loop: Loop, port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> None:
        self._loop = loop
        self.sock = socket.create_connection(("127.0.0.1", port), 30)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="a.example", session=session)

    def flight(self) -> None:
        """The handshake, to the end of the last flight; what answers that is not read."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self.take()
            else:
                break
        self._flush()

    def ask(self, data: bytes, size: int) -> bytes:
        """The first `size` bytes that come after `data`."""
        self.tls.write(data)
        self._flush()
        given = b""
        while len(given) < size:
            try:
                given += self.tls.read(size - len(given))
            except ssl.SSLWantReadError:
                self.take()
        return given

    def take(self) -> None:
        """What comes next, whatever it is."""
        some = self._loop.received(self.sock)
        assert some, "the edge has ended it"
        self._in.write(some)

    def _flush(self) -> None:
        self.sock.setblocking(True)
        self.sock.sendall(self._out.read())


class LastFlightTests(EdgeTest):
    def setUp(self) -> None:
        super().setUp()
        self.door = self.port()

    def met(self, made: Route, answer: bytes) -> None:
        """The promise, on a new session and on one that goes on; `answer`: how the answer to a request begins."""
        self.open(made)
        context = ssl.create_default_context(cafile=str(self.directory / "internal-ca" / "ca.pem"))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        session = None
        for resumed in (False, True):
            client = Client(self.loop, self.door, context, session)
            with client.sock:
                self.assertEqual(client.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 0)
                client.flight()
                self.loop.until(lambda: self.edge.connections(None, 2)["connections"][0]["phase"] not in ("", "tls"))
                self.assertEqual(unsent(client.sock.getsockname()), 0)
                client.take()
                self.assertEqual(client.ask(REQUEST, len(answer)), answer)
                self.assertEqual(client.tls.session_reused, resumed)
                session = client.tls.session
            self.event()

    def test_where_the_edge_answers(self) -> None:
        """The ticket has left when the handshake is over, before there is a request."""
        self.met(route("r", self.door, Respond(), tls="terminate", domains=("a.example",)), b"HTTP/1.1 200 ")

    def test_where_a_target_answers_requests(self) -> None:
        """Nor does it wait for the target."""
        target = Backend(self, answers(b"x")).target
        made = route("r", self.door, target, tls="terminate", domains=("a.example",), protocol="http")
        self.met(made, b"HTTP/1.1 200 ")

    def test_where_bytes_pass(self) -> None:
        """Nor for the first of them."""
        made = route("r", self.door, Backend(self, echo).target, tls="terminate", domains=("a.example",))
        self.met(made, REQUEST)


def unsent(peer: tuple[str, int]) -> int:
    """Of the socket of this process that is connected to `peer`."""
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            with socket.socket(fileno=os.dup(number)) as sock:
                if sock.getpeername() == peer:
                    return int(struct.unpack("i", fcntl.ioctl(sock, SIOCOUTQNSD, bytes(4)))[0])
        except OSError:
            continue
    raise AssertionError(f"no socket for {peer}")
