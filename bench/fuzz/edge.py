"""What strangers' connections are read with: TLS hellos, PROXY headers, requests and responses of HTTP/1.1, and what
proxies and DNS servers answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import dns.message
import dns.rrset
from dns.rdatatype import MX, TLSA, TXT, A

from bench.fuzz.session import cut
from dcrouter.errors import WireError
from dcrouter.net.dns.message import MAX_RECORDS, Answer, Query, Question
from dcrouter.wire import clienthello, proxyheader
from dcrouter.wire.http1.chunked import ChunkReader
from dcrouter.wire.http1.connect import Connect
from dcrouter.wire.http1.head import HeadReader, RequestHead
from dcrouter.wire.http1.responsehead import read_response
from dcrouter.wire.probe import HttpProbe, SmtpProbe
from dcrouter.wire.socks5 import Socks5


def _hello(data: bytes) -> None:
    """A hello is the same however much is behind it, and what is broken stays so; who waits for `needed` gets on."""
    try:
        whole = clienthello.parse(data)
    except WireError:
        whole = None
    else:
        assert whole is None or whole.length <= len(data)
        assert (clienthello.needed(data) > len(data)) == (whole is None), data
    for end in range(0, len(data), 1 + len(data) // 64):
        try:
            found = clienthello.parse(data[:end])
        except WireError:
            assert whole is None, data[:end]
            break
        if found is not None:
            assert found == whole, data[:end]


def _proxy(data: bytes) -> None:
    """A header is the same however much is behind it, and reads the same when it is written anew."""
    try:
        whole = proxyheader.parse(data)
    except WireError:
        return
    if whole is None:
        return
    assert whole.length <= len(data)
    assert proxyheader.parse(data[: whole.length]) == whole
    for end in range(whole.length):
        assert proxyheader.parse(data[:end]) is None, data[:end]
    for build in (proxyheader.build_v1, proxyheader.build_v2):
        again = proxyheader.parse(build(whole.source, whole.destination))
        assert again is not None
        assert again.source == whole.source and again.destination == whole.destination, data


def _read(pieces: Iterator[bytes]) -> tuple[list[RequestHead], bool]:
    """Heads of requests without bodies, one behind the other; and whether what is behind them was refused."""
    reader, heads = HeadReader(), []
    try:
        for piece in pieces:
            rest = piece
            while (head := reader.feed(rest)) is not None:
                heads.append(head)
                rest = reader.rest
                if head.has_body or not rest:
                    return heads, False
    except WireError:
        return heads, True
    return heads, False


def _request(data: bytes) -> None:
    """Heads of requests, whole and in pieces: the same, and nothing in them ends a line when they are passed on."""
    if len(data) < 2:
        return
    size, stream = 1 + data[0], data[1:]
    whole, refused = _read(iter((stream,)))
    again, refused_too = _read(cut(stream, size))
    for one, other in zip(whole, again, strict=False):
        assert one == other, stream
    assert bool(whole) == bool(again) and (whole or refused == refused_too), stream
    for head in whole:
        for text in (head.method, head.target, head.path, head.query, head.host or "", *head.block.upgrade):
            assert "\r" not in text and "\n" not in text, stream
        for name, line in head.block.lines:
            assert b"\r" not in line and b"\n" not in line and b"\0" not in line and name, stream
        assert not (head.block.chunked and head.content_length is not None)


def _passed(pieces: Iterator[bytes], *, decode: bool = False) -> tuple[bytes, bytes, bool, bool]:
    """(what is passed on, what is behind the body, whether it has ended, whether it was refused)."""
    reader, out = ChunkReader(decode=decode), b""
    try:
        for piece in pieces:
            out += reader.feed(piece)
            if reader.done:
                return out, reader.rest + b"".join(pieces), True, False
    except WireError:
        return out, b"", False, True
    return out, b"", False, False


def _chunked(data: bytes) -> None:
    """A chunked body leaves the same however it comes, and what leaves is passed on as it is by the next."""
    if len(data) < 2:
        return
    size, stream = 1 + data[0], data[1:]
    whole, rest, ended, refused = _passed(iter((stream,)))
    again = _passed(cut(stream, size))
    assert again[2:] == (ended, refused), stream
    if ended:
        assert again == (whole, rest, True, False), stream
        assert _passed(iter((whole,))) == (whole, b"", True, False), stream
        content, behind, _, _ = _passed(iter((stream,)), decode=True)
        assert behind == rest and content == _passed(iter((whole,)), decode=True)[0], stream


def _response(data: bytes) -> None:
    """Heads of responses: the same however much is behind them; a body has one length, or one way to end."""
    for method in ("GET", "HEAD"):
        try:
            head = read_response(data, method)
        except WireError:
            continue
        if head is None:
            continue
        assert head.length <= len(data)
        again = read_response(data[: head.length], method)
        assert again is not None and (again.body, again.lines) == (head.body, head.lines), data
        for _, line in head.lines:
            assert b"\r" not in line and b"\n" not in line and b"\0" not in line, data
        for end in range(0, head.length, 1 + head.length // 64):
            assert read_response(data[:end], method) is None, data[:end]


def _answers(data: bytes) -> None:
    """What proxies and probed targets say: each asks for what it still wants, and never for nothing."""
    for socks in (Socks5("x.example", 25), Socks5("192.0.2.1", 25, "user", "secret")):
        left = data
        with suppress(WireError):
            while left:
                assert socks.wants > 0
                said, left = left[: socks.wants], left[socks.wants :]
                if socks.feed(said) is None:
                    break
    for dialogue in (Connect("x.example", 443), HttpProbe("x.example", "/", {200}), SmtpProbe("edge.example")):
        with suppress(WireError):
            for piece in cut(data, 1 if isinstance(dialogue, Connect) else 7):
                if dialogue.feed(piece) is None:
                    break


_QUERIES = [Query(Question("x.example", kind), trusted=True) for kind in (A, MX, TXT, TLSA)]


def _dns(data: bytes) -> None:
    """What a DNS server answers: each answer is bounded, and nothing in it is more than it says."""
    if not data:
        return
    query = _QUERIES[data[0] % len(_QUERIES)]
    answer = query.read(query.wire[:2] + data[1:])
    if isinstance(answer, Answer):
        assert len(answer.records) <= MAX_RECORDS and answer.ttl >= 0, data
        assert all(isinstance(text, str) for text in (answer.name, *answer.texts))
        for preference, name in answer.exchangers:
            assert 0 <= preference <= 65535 and name == name.lower(), data


def _response_to(number: int, *records: str) -> bytes:
    query = dns.message.from_wire(_QUERIES[number].wire)
    response = dns.message.make_response(query)
    for record in records:
        response.answer.append(dns.rrset.from_text("x.example.", 60, "IN", *record.split(" ", 1)))
    return bytes((number,)) + response.to_wire()[2:]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "hello": _hello,
    "proxy": _proxy,
    "request": _request,
    "chunked": _chunked,
    "response": _response,
    "answers": _answers,
    "dns": _dns,
}

_HELLO = bytes.fromhex(
    "16030100600100005c0303"
    + "11" * 32
    + "00"
    + "00021301"
    + "0100"
    + "0031"
    "0000000e000c0000096c6f63616c686f7374"  # server_name: localhost
    "0010000b00090268320568747470"[:-2]  # an ALPN that is cut
)

SEEDS: dict[str, tuple[bytes, ...]] = {
    "hello": (_HELLO, _HELLO[:9] + b"\x16\x03\x01\x00\x05" + _HELLO[9:14]),
    "proxy": (
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65535\r\nEHLO",
        b"PROXY UNKNOWN x\r\n",
        proxyheader.build_v2(("192.0.2.1", 1), ("198.51.100.2", 2)),
        proxyheader.build_v2(("2001:db8::1", 1), ("2001:db8::2", 2)) + b"x",
    ),
    "request": (
        b"\3GET /a?b=c HTTP/1.1\r\nHost: x.example:80\r\nConnection: keep-alive, upgrade\r\nUpgrade: h2c\r\n\r\n"
        b"GET http://y/ HTTP/1.0\r\n\r\n",
        b"\x40POST / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n5\r\nhello",
        b"\1OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
    ),
    "chunked": (
        b"\2" + b"5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\nGET",
        b"\1" + b"00\r\n\r\n",
        b"\x09" + b"a \r\n0123456789\r\n0\r\n\r\n",
    ),
    "response": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close, x-a\r\nX-A: 1\r\n\r\nhello",
        b"HTTP/1.0 204\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    "answers": (
        b"\5\0\5\0\0\1\x7f\0\0\1\0\x19220 x",
        b"\5\2\1\0\5\0\0\3\1x\0\x19",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"220-a\r\n220 x\r\n250 OK\r\n221 bye\r\n",
    ),
    "dns": (
        _response_to(0, "A 192.0.2.1"),
        _response_to(0, "CNAME x.example."),
        _response_to(1, "MX 10 Mx.example.", "MX 0 ."),
        _response_to(2, 'TXT "v=spf1" " -all"'),
        _response_to(3, "TLSA 3 1 1 " + "00" * 32),
        _response_to(0),
    ),
}
