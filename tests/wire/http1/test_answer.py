"""Whole responses, as a client's parser reads them."""

from __future__ import annotations

import http.client
import io
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.http1 import check_header, response


class _Socket:
    """What http.client reads from: only makefile."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def read(data: bytes, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    result = http.client.HTTPResponse(cast(Any, _Socket(data)), method=method)
    result.begin()
    return result, result.read()


class Response(SynchronousTestCase):
    """response."""

    def test_bytes(self) -> None:
        """The whole of a small one."""
        self.assertEqual(
            response(200, b"ok", {"X-A": " b "}, now=784111777.9),
            b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 2\r\nConnection: close\r\nX-A: b\r\n\r\nok",
        )

    def test_client_reads_it(self) -> None:
        """A client gets status, reason, body and headers, and knows that the connection ends."""
        result, body = read(response(403, b"no\n", {"content-type": "text/html", "Location": "/x"}))
        self.assertEqual((result.status, result.reason, body), (403, "Forbidden", b"no\n"))
        self.assertEqual(result.headers.get_all("Content-Type"), ["text/html"])
        self.assertEqual((result.headers["Location"], result.will_close), ("/x", True))
        self.assertTrue(result.headers["Date"].endswith(" GMT"))

    def test_head(self) -> None:
        """HEAD: the length of the body, and no body."""
        data = response(200, b"four", method="HEAD")
        self.assertTrue(data.endswith(b"\r\n\r\n"))
        self.assertEqual(read(data, "HEAD")[0].headers["Content-Length"], "4")

    def test_without_content(self) -> None:
        """1xx, 204 and 304 have neither body nor length."""
        for status in (100, 103, 204, 304):
            data = response(status, b"lost")
            self.assertTrue(data.endswith(b"\r\n\r\n"))
            self.assertNotIn(b"Content-", data)
        self.assertIn(b"Content-Length: 0\r\n", response(205))

    def test_unknown_status(self) -> None:
        """A status without a name keeps the space before the name that is not there."""
        self.assertTrue(response(799).startswith(b"HTTP/1.1 799 \r\n"))
        for status in (99, 1000, -1):
            self.assertRaises(ValueError, response, status)

    def test_injection(self) -> None:
        """No name and no value can add a line or change the framing."""
        for name, value in (
            ("X", "a\r\nSet-Cookie: b"),
            ("X", "a\n"),
            ("X", "a\0"),
            ("X", "a\x7f"),
            ("X", "\u2028"),
            ("X\r\nY", "a"),
            ("X Y", "a"),
            ("X:", "a"),
            ("", "a"),
            ("Content-Length", "3"),
            ("transfer-encoding", "chunked"),
            ("Connection", "keep-alive"),
        ):
            self.assertRaises(ValueError, response, 200, b"", {name: value})
            self.assertRaises(ValueError, check_header, name, value)

    @settings(max_examples=200)
    @given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=4), st.binary(max_size=50))
    def test_any(self, headers: dict[str, str], body: bytes) -> None:
        """Whatever is accepted arrives as given."""
        try:
            data = response(200, body, headers)
        except ValueError:
            return
        result, arrived = read(data)
        self.assertEqual(arrived, body)
        self.assertEqual(data.partition(b"\r\n\r\n")[0].count(b"\n"), data.partition(b"\r\n\r\n")[0].count(b"\r\n"))
        self.assertTrue(result.will_close)
