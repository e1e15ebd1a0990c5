from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import ProxyRefusal, WireError
from dcrouter.wire.http1.connect import LONGEST, Connect


def read(client: Connect, data: bytes, sizes: st.DataObject | None = None) -> int | None:
    """How much of `data` was read when the way was open, or None; never more than the client wants."""
    at = 0
    while at < len(data):
        size = client.wants if sizes is None else min(client.wants, sizes.draw(st.integers(1, 4)))
        piece = data[at : at + size]
        at += len(piece)
        if client.feed(piece) is None:
            return at
    return None


class RequestTests(SynchronousTestCase):
    def test_the_request(self) -> None:
        """The target as authority, IPv6 in brackets; the login as Basic (RFC 7617)."""
        self.assertEqual(
            Connect("app.test", 443).opening, b"CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n"
        )
        self.assertTrue(Connect("2001:db8::1", 25).opening.startswith(b"CONNECT [2001:db8::1]:25 HTTP/1.1\r\n"))
        said = Connect("a", 1, "Aladdin", "open sesame").opening
        self.assertIn(b"\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n", said)


class AnswerTests(SynchronousTestCase):
    @given(
        st.sampled_from(
            (
                b"HTTP/1.0 200 Connection established\r\n\r\n",
                b"HTTP/1.1 200\r\nVia: 1.1 x\r\nContent-Length: 5\r\n\r\n",
                b"HTTP/1.1 299 ok\r\nX: \r\r\r\n\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            )
        ),
        st.binary(max_size=40),
        st.data(),
    )
    def test_not_one_byte_of_the_targets_is_taken(self, answer: bytes, behind: bytes, data: st.DataObject) -> None:
        """However the answer is cut; a 2xx to CONNECT has no body, whatever its fields say."""
        self.assertEqual(read(Connect("a", 1), answer + behind, data), len(answer))

    def test_refusals_in_words(self) -> None:
        """The proxy's own ones, and what is no HTTP."""
        for answer, problem in (
            (b"HTTP/1.1 407 x\r\n\r\n", "the proxy wants a login, or has refused the user or the password"),
            (b"HTTP/1.1 403 No\x1b[2J way\r\n\r\n", "the proxy answered 403 No?[2J way"),
            (b"HTTP/1.0 502\r\nContent-Length: 3\r\n\r\nbad", "the proxy answered 502"),
            (b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "the proxy answered 301 Moved"),
            (b"SSH-2.0-OpenSSH_9\r\n", "the proxy does not speak HTTP"),
            (b"\x05\xff\x00\x00\x00\x00\x00\x00", "the proxy does not speak HTTP"),
            (b"HTTP/1.x 200 OK\r\n\r\n", "the proxy does not speak HTTP"),
            (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * LONGEST, "the proxy's answer has no end"),
        ):
            error = self.assertRaises(WireError, read, Connect("a", 1), answer)
            self.assertEqual(str(error), problem)

    def test_whom_an_answer_blames(self) -> None:
        """RFC 9110 section 15: gateway and server errors: the target; forbidden: this proxy, for this target; no proxy
        at all, no CONNECT, no login: the proxy.
        """
        for status, final in ((500, True), (502, True), (503, True), (504, True), (403, False), (429, False)):
            error = self.assertRaises(ProxyRefusal, Connect("a", 1).feed, b"HTTP/1.1 %d x\r\n\r\n" % status)
            self.assertEqual(error.final, final, status)
        for status in (301, 400, 405, 407, 501):
            error = self.assertRaises(WireError, Connect("a", 1).feed, b"HTTP/1.1 %d x\r\n\r\n" % status)
            self.assertNotIsInstance(error, ProxyRefusal)
