"""Request smuggling through the whole service, in front of nginx and of a Python server.

One promise for every attack: a server behind us is asked exactly what we have routed, no request more and none fewer,
and the connection of the next client is clean.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections import Counter
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.support.programs import Nginx
from tests.support.router import Router, until
from tests.support.webapp import WebApp

TEXT = """
http: {request_timeout: 5s}
defaults: {timeouts: {idle: 5s}}
routes:
  - name: nginx
    match: {ports: $web, domains: [nginx.example]}
    action: {type: forward, target: {host: 127.0.0.1, port: $nginx}}
  - name: python
    match: {ports: $web, domains: [python.example]}
    action: {type: forward, target: {host: 127.0.0.1, port: $python}}
"""

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"
LENGTHS = (b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: %d" % (len(SMUGGLED) + 5))
ENCODINGS = (
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding: \xffchunked",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding\r\n: chunked",
    b"X: x\nTransfer-Encoding: chunked",
    b"X: x\rTransfer-Encoding: chunked",
    b"X: x\r\n\tTransfer-Encoding: chunked",
    b" Transfer-Encoding: chunked",
    b"Transfer_Encoding: chunked",
    b"TRANSFER-ENCODING: CHUNKED",
    b"Transfer-Encoding: chunked;a=b",
    b"Transfer-Encoding: chunked\nX: x",
    b"Transfer-Encoding: chunked\r",
    b"\x00Transfer-Encoding: chunked",
)
"""Each has been taken for chunked by one server and for nothing by another (RFC 9112 section 11.2; the lists of
smuggler.py, h2csmuggler and PortSwigger's desync research).
"""
MORE_LENGTHS = (
    b"Content-Length: 5\r\nContent-Length: 0",
    b"Content-Length: 0\r\nContent-Length: 5",
    b"Content-Length: 5, 5",
    b"Content-Length: 0, 5",
    b"Content-Length: +5",
    b"Content-Length: -5",
    b"Content-Length: 0x5",
    b"Content-Length: 05",
    b"Content-Length: 5_0",
    b"Content-Length: 5 0",
    b"Content-Length : 5",
    b"Content_Length: 5",
    b"Content-Length:\r\n 5",
    b"X: x\nContent-Length: 5",
    b"X: x\rContent-Length: 5",
    b"Content-Length: 5\x00",
    b"Content-Length: 5;x",
    b"Content-Length: 5e0",
    b"Content-Length: 99999999999999999999",
    b"Content-Length:",
    b"Content-Length: ",
)
CHUNKS = (
    b"0\n\r\n",
    b"0\r\n\n",
    b"0\r\n\r",
    b"0;\n\r\n",
    b"0;a\rb\r\n\r\n",
    b"0\r\nX: y\n\r\n",
    b"0\r\nTransfer-Encoding: x\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"0\r\nX\r\n\r\n",
    b"5;\nxx\r\n4c\r\n0\r\n\r\n",
    b"3\r\nabcX0\r\n\r\n",
    b"3\nabc\r\n0\r\n\r\n",
    b"-0\r\n\r\n",
    b"0x0\r\n\r\n",
    b" 0\r\n\r\n",
    b"+0\r\n\r\n",
    b"10000000000000000\r\n\r\n",
    b"ffffffffffffffff0\r\n\r\n",
    b"5;" + b"x" * 300 + b"\r\nhello\r\n0\r\n\r\n",
    b'5;a="\r\n0\r\n\r\n"\r\nhello\r\n0\r\n\r\n',
    b"2\r\nab\r\n\r\n0\r\n\r\n",
    b"0\r\n",
)
LINES = (
    b"GET /a HTTP/1.1\nHost: HOST\n\n",
    b"GET /a HTTP/1.1\r\nHost: HOST\r\n\rGET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: HOST\nX: y\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: HOST\r\nX: y\r\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: HOST\r\n X: y\r\n\r\n",
    b"GET /a HTTP/1.1\r\n\x0bHost: HOST\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: HOST\r\nHost: other.example\r\n\r\n",
    b"GET http://other.example/a HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /a\x00b HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /a HTTP/1.1\x0b\r\nHost: HOST\r\n\r\n",
    b"GET /a\tHTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET  /a HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /a HTTP/1.1 \r\nHost: HOST\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /a HTTP/0.9\r\nHost: HOST\r\n\r\n",
    b"GET /a\r\n",
    b"CONNECT /a HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: HOST\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /a HTTP/1.1\r\nHost: HOST\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: HOST\r\nConnection: Host\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n"
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    b"HEAD /a HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /a HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"\r\nGET /a HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"\nGET /a HTTP/1.1\r\nHost: HOST\r\n\r\n",
)


def attacks() -> Iterator[bytes]:
    """Whole attacks, with HOST where the host's name is to be. Behind each the smuggled request follows."""
    for encoding, length in itertools.product(ENCODINGS, LENGTHS):
        for fields in ((encoding, length), (length, encoding)):
            head = b"POST /a HTTP/1.1\r\nHost: HOST\r\n" + b"\r\n".join(fields) + b"\r\n\r\n"
            yield head + b"0\r\n\r\n" + SMUGGLED
    for encoding in ENCODINGS:
        yield b"POST /a HTTP/1.1\r\nHost: HOST\r\n" + encoding + b"\r\n\r\n0\r\n\r\n" + SMUGGLED
        yield b"POST /a HTTP/1.0\r\nHost: HOST\r\n" + encoding + b"\r\n\r\n0\r\n\r\n" + SMUGGLED
    for length in MORE_LENGTHS:
        yield b"POST /a HTTP/1.1\r\nHost: HOST\r\n" + length + b"\r\n\r\nhello" + SMUGGLED
        yield b"GET /a HTTP/1.1\r\nHost: HOST\r\n" + length + b"\r\n\r\n" + SMUGGLED
    for body in CHUNKS:
        yield b"POST /a HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n" + body + SMUGGLED
    for lines in LINES:
        yield lines + SMUGGLED


class SmugglingTests(SynchronousTestCase):
    nginx: Nginx
    python: WebApp
    router: Router

    @classmethod
    def setUpClass(cls) -> None:
        cls.nginx = Nginx("nginx.example")
        cls.addClassCleanup(cls.nginx.close)
        cls.python = WebApp()
        cls.addClassCleanup(cls.python.close)
        cls.router = Router(TEXT, ports=("web",), nginx=cls.nginx.port, python=cls.python.port)
        cls.addClassCleanup(cls.router.close)

    def said(self, data: bytes) -> bytes:
        """Everything that comes back for `data` and an end."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.router.ports["web"]), 30) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while some := sock.recv(65536):
                    answer += some
        return answer

    def routed(self) -> Counter[str]:
        """What was sent to a target, by the access log."""
        return Counter(
            f"{event['route']} {event['method']} {event['path']}"
            for event in self.router.access_lines()
            if event["event"] == "request" and event.get("target")
        )

    def asked(self) -> Counter[str]:
        """What the servers have been asked."""
        nginx = (self.nginx.base / "access.log").read_text().splitlines()
        return Counter([f"nginx {line}" for line in nginx] + [f"python {line}" for line in self.python.asked])

    def test_servers_are_asked_what_was_routed_and_nothing_else(self) -> None:
        """Some three hundred attacks on each; after each one the next client gets its own answer."""
        count = 0
        for name in (b"nginx.example", b"python.example"):
            for attack in attacks():
                count += 1
                tag = b"/clean-%d" % count
                answer = self.said(attack.replace(b"HOST", name).replace(b"/a ", b"/a%d " % count))
                self.assertTrue(answer == b"" or answer.startswith(b"HTTP/1.1 "), (attack, answer))
                clean = self.said(b"HEAD %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (tag, name))
                self.assertEqual(clean.count(b"HTTP/1.1 "), 1, attack)
                self.assertIn(clean[9:12], (b"404", b"200"), attack)
        self.assertGreater(count, 500)
        until(lambda: self.routed().total() >= self.asked().total() and self.asked() == self.routed())
        self.assertEqual(self.asked(), self.routed())
        self.assertEqual(sum(number for line, number in self.asked().items() if "clean-" in line), count)

    def test_what_is_ambiguous_is_refused_and_the_connection_closed(self) -> None:
        """One 400 (or 501), and nothing of what followed is looked at."""
        for attack in attacks():
            head, _, _ = attack.partition(b"\r\n\r\n")
            framings = head.lower().count(b"content-length:") + head.lower().count(b"transfer-encoding:")
            if framings < 2 or b"other.example" in head:
                continue
            answer = self.said(attack.replace(b"HOST", b"nginx.example"))
            self.assertEqual(answer.count(b"HTTP/1.1 "), 1, attack)
            self.assertIn(answer[9:12], (b"400", b"501"), attack)
            self.assertIn(b"\r\nConnection: close\r\n", answer)
