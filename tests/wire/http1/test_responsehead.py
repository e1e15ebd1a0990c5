"""Heads of responses: how long their bodies are, what goes on to the client, and what is no response."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.http1.responsehead import CHUNKED, MAX_RESPONSE_HEAD, UNTIL_CLOSE, ResponseHead, read_response


def raw(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"".join(line + b"\r\n" for line in (first, *lines, b""))


def read(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK", method: str = "GET") -> ResponseHead:
    head = read_response(raw(*lines, first=first) + b"body", method)
    assert head is not None
    return head


LENGTH, CHUNKS = b"Content-Length: 4", b"Transfer-Encoding: chunked"


class Taken(SynchronousTestCase):
    def test_usual(self) -> None:
        """Fields for this connection are left here, all others pass in their order."""
        data = raw(
            b"Server: x", b"Connection: Keep-Alive, X-Hop", b"X-Hop: 1", b"Keep-Alive: timeout=5", LENGTH, b"A: b"
        )
        head = read_response(data + b"body", "GET")
        assert head is not None
        self.assertEqual((head.status, head.first, head.body, head.length), (200, b"HTTP/1.1 200 OK", 4, len(data)))
        self.assertEqual([line for _, line in head.lines], [b"Server: x", b"A: b", LENGTH])
        self.assertTrue(head.keep_alive)

    def test_bodies(self) -> None:
        """RFC 9112 section 6.3, in its order."""
        for lines, first, method, expected in (
            ((LENGTH,), b"HTTP/1.1 200 OK", "GET", 4),
            ((CHUNKS,), b"HTTP/1.1 200 OK", "GET", CHUNKED),
            ((b"Transfer-Encoding: Chunked",), b"HTTP/1.1 200 OK", "GET", CHUNKED),
            ((), b"HTTP/1.1 200 OK", "GET", UNTIL_CLOSE),
            ((), b"HTTP/1.0 200 OK", "GET", UNTIL_CLOSE),
            ((LENGTH,), b"HTTP/1.1 200 OK", "HEAD", 0),
            ((CHUNKS,), b"HTTP/1.1 200 OK", "HEAD", 0),
            ((), b"HTTP/1.1 200 OK", "HEAD", 0),
            ((LENGTH,), b"HTTP/1.1 304 Not Modified", "GET", 0),
            ((), b"HTTP/1.1 204 No Content", "GET", 0),
            ((CHUNKS,), b"HTTP/1.1 204 No Content", "GET", 0),
            ((), b"HTTP/1.1 100 Continue", "GET", 0),
            ((), b"HTTP/1.1 103 Early Hints", "GET", 0),
        ):
            self.assertEqual(read(*lines, first=first, method=method).body, expected, (lines, first, method))

    def test_the_length_of_what_is_not_sent(self) -> None:
        """A response to HEAD, and a 304, say how long the body would be; a 204 does not."""
        self.assertEqual(read(LENGTH, method="HEAD").lines, [("content-length", LENGTH)])
        self.assertEqual(read(LENGTH, first=b"HTTP/1.1 304 x").lines, [("content-length", LENGTH)])
        self.assertEqual(read(LENGTH, first=b"HTTP/1.1 204 x").lines, [])

    def test_persistence(self) -> None:
        """1.1 unless it says close, 1.0 if it says keep-alive, and never behind a body that only an end ends."""
        for lines, first, expected in (
            ((LENGTH,), b"HTTP/1.1 200 OK", True),
            ((LENGTH, b"Connection: close"), b"HTTP/1.1 200 OK", False),
            ((LENGTH, b"Connection: x, Close"), b"HTTP/1.1 200 OK", False),
            ((b"Connection: close", b"Connection: keep-alive", LENGTH), b"HTTP/1.1 200 OK", False),
            ((LENGTH,), b"HTTP/1.0 200 OK", False),
            ((LENGTH, b"Connection: Keep-Alive"), b"HTTP/1.0 200 OK", True),
            ((), b"HTTP/1.1 200 OK", False),
            ((b"Connection: keep-alive",), b"HTTP/1.1 200 OK", False),
        ):
            self.assertEqual(read(*lines, first=first).keep_alive, expected, (lines, first))

    def test_options_cannot_take_away_what_counts(self) -> None:
        """Connection names fields for one hop; the length and the cookies are not."""
        head = read(b"Connection: content-length, set-cookie, x", LENGTH, b"Set-Cookie: a=b", b"X: y")
        self.assertEqual([name for name, _ in head.lines], ["set-cookie", "content-length"])
        self.assertEqual(head.body, 4)

    def test_an_old_version_is_written_as_ours(self) -> None:
        """RFC 9110 section 2.5: an intermediary sends its own version."""
        self.assertEqual(read(LENGTH, first=b"HTTP/1.0 404 Not here").first, b"HTTP/1.1 404 Not here")
        self.assertEqual(read(LENGTH, first=b"HTTP/1.1 200").status, 200)

    def test_upgrades(self) -> None:
        """A 101 says to what."""
        head = read(b"Connection: Upgrade", b"Upgrade: websocket", first=b"HTTP/1.1 101 Switching Protocols")
        self.assertEqual((head.upgrade, head.body), ("websocket", 0))

    def test_in_pieces(self) -> None:
        """Nothing before the end, whatever has been looked at before."""
        data = raw(LENGTH, b"A: b")
        for cut in range(len(data)):
            self.assertIsNone(read_response(data[:cut], "GET"))
            head = read_response(data, "GET", cut)
            assert head is not None
            self.assertEqual(head.length, len(data))


class Refused(SynchronousTestCase):
    def test_what_is_no_response(self) -> None:
        """Other protocols, other versions, lines that are none."""
        for data in (
            b"SSH-2.0-OpenSSH_9\r\n",
            b"220 mail ESMTP\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/0.9 200 OK\r\n\r\n",
            b"HTTP/1.1 099 x\r\n\r\n",
            b"HTTP/1.1 2000 x\r\n\r\n",
            b"HTTP/1.1 200 a\x00\r\n\r\n",
            b"HTTP/1.1 200 OK\nA: b\n\n\r\n\r\n",
            raw(b"A: b\nC: d"),
            raw(b"A: b\rC: d"),
            raw(b"A : b"),
            raw(b"A: b", b" folded"),
            raw(b"A: \x00"),
            raw(b"A"),
        ):
            self.assertRaises(WireError, read_response, data, "GET")

    def test_framing_that_can_be_read_in_two_ways(self) -> None:
        """A client's cache, or another client on its connection, would get somebody else's response."""
        for lines in (
            (LENGTH, CHUNKS),
            (CHUNKS, LENGTH),
            (LENGTH, b"Content-Length: 5"),
            (LENGTH, LENGTH),
            (b"Content-Length: 4, 4",),
            (b"Content-Length: +4",),
            (b"Content-Length: 0x4",),
            (b"Content-Length:",),
            (b"Transfer-Encoding: gzip, chunked",),
            (b"Transfer-Encoding: identity",),
            (b"Transfer-Encoding: chunked, chunked",),
            (CHUNKS, CHUNKS),
            (b"Transfer-Encoding: \x0bchunked",),
        ):
            self.assertRaises(WireError, read_response, raw(*lines), "GET")
        self.assertRaises(WireError, read_response, raw(CHUNKS, first=b"HTTP/1.0 200 OK"), "GET")

    def test_bound(self) -> None:
        """A head of MAX_RESPONSE_HEAD octets, and not one more."""
        fill = MAX_RESPONSE_HEAD - len(raw(b"A: "))
        self.assertIsNotNone(read_response(raw(b"A: " + b"x" * fill) + b"body", "GET"))
        self.assertRaises(WireError, read_response, raw(b"A: " + b"x" * (fill + 1)), "GET")
        self.assertRaises(WireError, read_response, b"HTTP/1.1 200 OK\r\nA: " + b"x" * MAX_RESPONSE_HEAD, "GET")
