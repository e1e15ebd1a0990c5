"""Request heads: what is taken, in any pieces, and the tricks that are refused."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.http1 import MAX_HEAD, HeadReader, RequestHead, parse_head

USUAL = (
    b"GET /a/b?c=d&e HTTP/1.1\r\nHost: WWW.Example.com:8080\r\nUser-Agent: x/1\r\n"
    b"Accept: \t*/* \r\nX-Empty:\r\nA: \xe4\r\n\r\n"
)


def request(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a.example") -> bytes:
    return b"".join(line + b"\r\n" for line in (first, *([host] if host else []), *lines, b""))


def read(data: bytes) -> RequestHead:
    head = parse_head(data)
    assert head is not None
    return head


class Taken(SynchronousTestCase):
    """Heads that are taken."""

    def test_usual(self) -> None:
        """Every part is where it belongs."""
        head = read(USUAL)
        self.assertEqual((head.method, head.target, head.path, head.query), ("GET", "/a/b?c=d&e", "/a/b", "c=d&e"))
        self.assertEqual((head.version, head.host, head.port), ("1.1", "www.example.com", 8080))
        self.assertEqual(head.headers[2:], (("accept", "*/*"), ("x-empty", ""), ("a", "\xe4")))
        self.assertEqual((head.keep_alive, head.has_body, head.content_length), (True, False, None))
        self.assertEqual(head.length, len(USUAL))

    def test_hosts(self) -> None:
        """Names, addresses and IPv6 literals, with and without a port."""
        for sent, expected in (
            (b"A.example.", ("a.example", None)),
            (b"192.0.2.1:80", ("192.0.2.1", 80)),
            (b"[2001:DB8:0::1]", ("[2001:db8::1]", None)),
            (b"[::1]:8443", ("[::1]", 8443)),
            (b"a:", ("a", None)),
            (b"xn--bcher-kva.example:65535", ("xn--bcher-kva.example", 65535)),
        ):
            head = read(request(host=b"Host: " + sent))
            self.assertEqual((head.host, head.port), expected)

    def test_targets(self) -> None:
        """The forms of RFC 9112 section 3.2; an absolute target's authority wins over Host."""
        for first, expected in (
            (b"GET //evil.example/x HTTP/1.1", ("a.example", "//evil.example/x", "")),
            (b"GET /?? HTTP/1.1", ("a.example", "/", "?")),
            (b"GET http://B.example:81/x?y HTTP/1.1", ("b.example", "/x", "y")),
            (b"GET HTTPS://b.example HTTP/1.1", ("b.example", "/", "")),
            (b"GET http://b.example?y HTTP/1.1", ("b.example", "/", "y")),
            (b"OPTIONS * HTTP/1.1", ("a.example", "*", "")),
            (b"OPTIONS http://b.example HTTP/1.1", ("b.example", "*", "")),
        ):
            head = read(request(first=first))
            self.assertEqual((head.host, head.path, head.query), expected)

    def test_http10(self) -> None:
        """Before 1.1 Host may be missing; the connection is kept only if the client asks."""
        head = read(request(first=b"GET / HTTP/1.0", host=b""))
        self.assertEqual((head.version, head.host, head.keep_alive), ("1.0", None, False))
        self.assertTrue(read(request(b"Connection: keep-alive", first=b"GET / HTTP/1.0")).keep_alive)
        self.assertFalse(read(request(b"Connection: close")).keep_alive)

    def test_bodies(self) -> None:
        """A body is announced by its length or by chunked, and by nothing else."""
        for line, expected in (
            (b"Content-Length: 5", (True, 5)),
            (b"Content-Length: 0", (False, 0)),
            (b"Transfer-Encoding: chunked", (True, None)),
            (b"Transfer-Encoding: Chunked", (True, None)),
            (b"X: y", (False, None)),
        ):
            head = read(request(line, first=b"POST / HTTP/1.1"))
            self.assertEqual((head.has_body, head.content_length), expected)

    def test_upgrades_are_only_offers(self) -> None:
        """An offer to change the protocol leaves a plain request."""
        head = read(request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"))
        self.assertEqual(head.path, "/")

    def test_empty_lines_before_it(self) -> None:
        """Some clients send a CRLF too many after a body (RFC 9112 section 2.2)."""
        head = read(b"\r\n\r\n" + USUAL)
        self.assertEqual((head.target, head.length), ("/a/b?c=d&e", len(USUAL) + 4))


class Pieces(SynchronousTestCase):
    """A head may arrive in any pieces."""

    def test_cut_at_every_byte(self) -> None:
        """Nothing before the end, the same after it; what follows is left alone."""
        for data in (USUAL, b"\r\n" + USUAL, request(first=b"GET / HTTP/1.0", host=b"")):
            whole = parse_head(data)
            self.assertIsNotNone(whole)
            for cut in range(len(data)):
                self.assertIsNone(parse_head(data[:cut]), cut)
                reader = HeadReader()
                self.assertIsNone(reader.feed(data[:cut]))
                self.assertEqual(reader.feed(data[cut:] + b"\x00body\n"), whole)
                self.assertEqual(reader.rest, b"\x00body\n")

    def test_byte_by_byte(self) -> None:
        """A dribbled head is the same head, even one of the full size."""
        data = request(b"A: " + b"x" * 16000)
        reader = HeadReader()
        for at in range(len(data) - 1):
            self.assertIsNone(reader.feed(data[at : at + 1]))
        self.assertEqual(reader.feed(data[-1:]), parse_head(data))
        self.assertEqual(reader.rest, b"")

    def test_bound(self) -> None:
        """A head of MAX_HEAD is taken; one byte more is 431, even unfinished, as a field, a target or empty lines."""
        space = MAX_HEAD - len(request(b"A: "))
        self.assertEqual(read(request(b"A: " + b"x" * space) + b"body").length, MAX_HEAD)
        for data in (
            request(b"A: " + b"x" * (space + 1)),
            request(b"A: " + b"x" * (space + 1))[:MAX_HEAD],
            b"GET /" + b"x" * MAX_HEAD,
            b"\r\n" * MAX_HEAD,
        ):
            error = self.assertRaises(WireError, parse_head, data)
            self.assertIn(b"HTTP/1.1 431 Request Header Fields Too Large\r\n", error.reply)


class Refused(SynchronousTestCase):
    """Requests that two readers could read differently, and those that are none."""

    def refused(self, data: bytes, status: bytes = b"400") -> None:
        """At once and byte by byte, with a whole response that closes."""
        error = self.assertRaises(WireError, parse_head, data)
        self.check(error, status, data)
        reader = HeadReader()
        for at in range(len(data)):
            try:
                self.assertIsNone(reader.feed(data[at : at + 1]), data)
            except WireError as late:
                self.check(late, status, data)
                return
        self.fail(f"taken byte by byte: {data!r}")

    def check(self, error: WireError, status: bytes, data: bytes) -> None:
        assert error.reply is not None
        head, _, text = error.reply.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 " + status + b" "), (data, head))
        self.assertIn(b"\r\nConnection: close", head)
        self.assertIn(b"\r\nContent-Length: %d\r\n" % len(text), head + b"\r\n")

    def test_smuggling(self) -> None:
        """The table of request smuggling: framing that is told twice, wrongly, or by lines that are none."""
        for lines in (
            [b"Content-Length: 3", b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding: chunked", b"Content-Length: 3"],
            [b"Content-Length: 3", b"Content-Length: 4"],
            [b"Content-Length: 3", b"Content-Length: 3"],
            [b"Content-Length: 3, 3"],
            [b"Content-Length: +3"],
            [b"Content-Length: -3"],
            [b"Content-Length: 0x3"],
            [b"Content-Length: 3 3"],
            [b"Content-Length:"],
            [b"Content-Length: 99999999999999999999"],
            [b"Content-Length : 3"],
            [b"Transfer-Encoding: xchunked"],
            [b"Transfer-Encoding: chunkedx"],
            [b"Transfer-Encoding: chunked, identity"],
            [b"Transfer-Encoding: chunked, chunked"],
            [b"Transfer-Encoding: identity"],
            [b"Transfer-Encoding: gzip"],
            [b"Transfer-Encoding: \x0bchunked"],
            [b"Transfer-Encoding: 'chunked'"],
            [b'Transfer-Encoding: "chunked"'],
            [b"Transfer-Encoding:"],
            [b"Transfer-Encoding : chunked"],
            [b"Transfer-Encoding\t: chunked"],
            [b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"],
            [b"Transfer-Encoding: x", b"Transfer-Encoding: chunked;q=1"],
            [b"Transfer-Encoding:", b" chunked"],
            [b"X: y", b" Transfer-Encoding: chunked"],
            [b" X: y"],
            [b"X: y", b"\tz"],
            [b"X: y\rTransfer-Encoding: chunked"],
            [b"X: y\nTransfer-Encoding: chunked"],
            [b"X: y\0"],
            [b"X: y\x7f"],
            [b"X\0: y"],
            [b"X"],
            [b": y"],
            [b"X Y: z"],
            [b"\xe4: z"],
        ):
            self.refused(request(*lines, first=b"POST / HTTP/1.1"))
        self.refused(request(b"Transfer-Encoding: gzip, chunked", first=b"POST / HTTP/1.1"), b"501")
        self.refused(request(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"))

    def test_line_ends(self) -> None:
        """Only CRLF ends a line: a bare LF is refused where it stands, not waited behind."""
        for data in (
            b"GET / HTTP/1.1\nHost: a\n\n",
            b"GET / HTTP/1.1\r\nHost: a\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n",
            b"GET / HTTP/1.1\r\nHost: a\n\n",
            b"GET / HTTP/1.1\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n",
            b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
            b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ):
            self.refused(data)

    def test_hosts(self) -> None:
        """None or several on 1.1, and what is no host, even beside an absolute target."""
        self.refused(request(host=b""))
        self.refused(request(host=b"", first=b"GET http://a.example/ HTTP/1.1"))
        self.refused(request(b"Host: a.example"))
        self.refused(request(b"Host: b.example", first=b"GET / HTTP/1.0"))
        for host in (
            b"",
            b"a b",
            b"a/b",
            b"a@b",
            b"u:p@a",
            b"a,b",
            b"a:b",
            b"a:0",
            b"a:65536",
            b"a:-1",
            b"a:1:2",
            b"a..b",
            b"::1",
            b"[::1",
            b"[::1]x",
            b"[1.2.3.4]",
            b"[fe80::1%25eth0]",
            b"[]",
            b"a%2eb",
            b"\xe4.example",
            b":80",
            b"a" * 300,
        ):
            self.refused(request(host=b"Host: " + host))
            self.refused(request(host=b"Host: " + host, first=b"GET http://a.example/ HTTP/1.1"))

    def test_targets(self) -> None:
        """Forms that are none, users in authorities, fragments, characters beyond ASCII, and `*` for a GET."""
        for target in (
            b"a",
            b"*",
            b"a.example:443",
            b"http:///x",
            b"http://u@a/",
            b"ftp://a/",
            b"/a#b",
            b"/\xe4",
            b"/\x7f",
        ):
            self.refused(request(first=b"GET " + target + b" HTTP/1.1"))

    def test_request_lines(self) -> None:
        """Spaces, versions and methods that are not HTTP/1.1's; CONNECT is no request to an origin."""
        for first, status in (
            (b"GET /", b"400"),
            (b"GET  / HTTP/1.1", b"400"),
            (b"GET / HTTP/1.1 ", b"400"),
            (b" GET / HTTP/1.1", b"400"),
            (b"GET\t/ HTTP/1.1", b"400"),
            (b"GET /a b HTTP/1.1", b"400"),
            (b"GET / http/1.1", b"400"),
            (b"GET / HTTP/1.", b"400"),
            (b"GET / HTTP/11.1", b"400"),
            (b"GET / ICE/1.0", b"400"),
            (b"GET / HTTP/0.9", b"505"),
            (b"GET / HTTP/1.2", b"505"),
            (b"GET / HTTP/2.0", b"505"),
            (b"GET / HTTP/3.0", b"505"),
            (b"PRI * HTTP/2.0", b"505"),
            (b"CONNECT a.example:443 HTTP/1.1", b"405"),
            (b"FOO / HTTP/1.1", b"501"),
            (b"get / HTTP/1.1", b"501"),
            (b"\x16\x03\x01\x02\x00\x01", b"400"),
            (b"SSH-2.0-OpenSSH_9", b"400"),
        ):
            self.refused(request(first=first), status)

    def test_405_names_what_is_allowed(self) -> None:
        """RFC 9110 section 15.5.6."""
        error = self.assertRaises(WireError, parse_head, request(first=b"CONNECT a:1 HTTP/1.1"))
        self.assertIn(b"\r\nAllow: GET, HEAD", error.reply)

    def test_noise_is_refused_early(self) -> None:
        """TLS on a plain port, HTTP/0.9 and bare LFs do not wait for a deadline."""
        for data in (b"\x16", b"\x80", b"(", b"GET /\r\n", b"GET / HTTP/1.1\n", b"PRI * HTTP/2.0\r\n", b"GET\x00"):
            self.assertRaises(WireError, parse_head, data)

    @settings(max_examples=400)
    @given(st.data())
    def test_mutations(self, data: st.DataObject) -> None:
        """Any bytes give a head, None or WireError, and the same one in two pieces as in one."""
        raw = bytearray(USUAL)
        for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=3)):
            raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        cut = data.draw(st.integers(0, len(raw)))
        self.assertEqual(self.outcome([bytes(raw)]), self.outcome([bytes(raw[:cut]), bytes(raw[cut:])]))

    def outcome(self, pieces: list[bytes]) -> RequestHead | str | None:
        reader = HeadReader()
        head = None
        try:
            for piece in pieces:
                if head is None:
                    head = reader.feed(piece)
        except WireError:
            return "refused"
        return head
