"""A client's last flight is acknowledged at once: until it is, Nagle's algorithm (RFC 9293 section 3.7.4) holds the
request back, and an acknowledgement alone may be 40 ms late. In TLS 1.3 the ticket carries it; where a session of
TLS 1.2 goes on, the server has nothing left to say (RFC 5246 section 7.3).
"""

from __future__ import annotations

import contextlib
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

    def begin(self, made: Route, version: ssl.TLSVersion) -> None:
        """An edge with this route, and what clients of one version of TLS know."""
        self.open(made)
        self.context = ssl.create_default_context(cafile=str(self.directory / "internal-ca" / "ca.pem"))
        self.context.minimum_version = self.context.maximum_version = version

    def shaken(self, session: ssl.SSLSession | None) -> Client:
        """A client that has said nothing since its last flight, which the edge has taken."""
        client = Client(self.loop, self.door, self.context, session)
        self.addCleanup(client.sock.close)
        self.assertEqual(client.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 0)
        client.flight()
        self.loop.until(lambda: self.edge.connections(None, 2)["connections"][0]["phase"] not in ("", "tls"))
        self.assertEqual(client.tls.session_reused, session is not None)
        return client

    def met(self, made: Route, answer: bytes) -> None:
        """The ticket has left, on a new session and on one that goes on; `answer`: how that to a request begins."""
        self.begin(made, ssl.TLSVersion.TLSv1_3)
        session = None
        for _ in range(2):
            client = self.shaken(session)
            with edges_end(client) as sock:
                self.assertEqual(struct.unpack("i", fcntl.ioctl(sock, SIOCOUTQNSD, bytes(4))), (0,))
            client.take()
            self.assertEqual(client.ask(REQUEST, len(answer)), answer)
            session = client.tls.session
            client.sock.close()
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

    def test_a_session_of_tls_1_2_that_goes_on(self) -> None:
        """The kernel, which would wait for something to send along, is told not to."""
        self.begin(route("r", self.door, Respond(), tls="terminate", domains=("a.example",)), ssl.TLSVersion.TLSv1_2)
        first = self.shaken(None)
        self.assertEqual(first.ask(REQUEST, 13), b"HTTP/1.1 200 ")
        first.sock.close()
        self.event()
        with edges_end(self.shaken(first.tls.session)) as sock:
            self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK), 1)


def edges_end(client: Client) -> socket.socket:
    """Of the same connection, for whoever closes it."""
    peer = client.sock.getsockname()
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            sock = socket.socket(fileno=os.dup(number))
        except OSError:
            continue
        with contextlib.suppress(OSError):
            if sock.getpeername() == peer:
                return sock
        sock.close()
    raise AssertionError(f"no socket for {peer}")
