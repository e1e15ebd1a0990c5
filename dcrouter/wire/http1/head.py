"""The head of one HTTP/1.1 request, framed and checked so that nobody behind us can read it differently.

Contract: `HeadReader.feed` takes bytes as they arrive and gives the head, None (more are needed) or raises WireError,
whose reply is a whole HTTP response; nothing after the head is looked at. `parse_head` does the same for all bytes from
the first one on. Syntax is llhttp's (strict); what it leaves to its caller is decided here.

RFC 9112 sections 2.2 (lines), 3 (request line), 3.2 (target and Host), 5 (fields), 6 (framing), 11.2 (smuggling);
RFC 9110 sections 4.2 (URIs), 9.1 (methods), 15.6.6 (505); RFC 6585 section 5 (431).
"""

from __future__ import annotations

import re
from http import HTTPStatus
from ipaddress import IPv6Address

import httptools
from attrs import frozen

from dcrouter.errors import WireError
from dcrouter.wire.hostname import host_name
from dcrouter.wire.http1.answer import response
from dcrouter.wire.http1.fields import Line, options, split, value

MAX_HEAD = 16384
"""Bytes of a request's head, the empty line at its end included; browsers with many cookies need half of it."""

REMEMBERED = 2048
"""Octets of a head that a connection remembers between requests: most heads of machines, and of browsers without much
to say.
"""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_UNFINISHED_LINE = re.compile(rb"(?:" + _TOKEN + rb"(?: [\x21-\x7e]*(?: [HTP/0-9.]*\r?)?)?)?")
_TELLING = 32  # the longest method and the beginning of a target
_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?", re.IGNORECASE)
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(?::([0-9]{0,5}))?")


@frozen
class Block:
    """The fields of a request's head, and what they say about its framing; heads with the same fields share one.

    `lines`: all of them. `host`, `port`: from Host. `chunked`, `content_length`: how a body is framed (neither: none).
    `connection`: the options of Connection. `upgrade`: the protocols offered, in lower case, "" where none is.
    `expect`: the expectations, in lower case.
    """

    lines: tuple[Line, ...]
    host: str | None
    port: int | None
    chunked: bool
    content_length: int | None
    connection: frozenset[str]
    upgrade: str
    expect: str


@frozen(kw_only=True)
class RequestHead:
    """One request's head.

    `target`: as sent; `path`: its path as sent ("*" for `OPTIONS *`), `query`: what follows the "?", without it.
    `host`: whom the request is for, lower case and without port, an IPv6 literal in brackets; from the target where
    that names one, else from Host; None only before HTTP/1.1. `port`: the number beside it, None where there is none.
    `keep_alive`: whether the client would like another request on this connection. `content_length`: bytes of the body,
    None where it is chunked or absent. `length`: bytes that the head took. `absolute`: the target named the host.
    """

    method: str
    target: str
    path: str
    query: str
    version: str
    host: str | None
    port: int | None
    keep_alive: bool
    has_body: bool
    content_length: int | None
    length: int
    absolute: bool
    block: Block

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """(name in lower case, value), in order, values one character per byte."""
        return tuple((name, value(line)) for name, line in self.block.lines)

    def get(self, name: str) -> str | None:
        """The first value of the field `name` (in lower case), or None."""
        return next((value(line) for found, line in self.block.lines if found == name), None)

    def values(self, name: str) -> list[str]:
        """All values of the field `name` (in lower case)."""
        return [value(line) for found, line in self.block.lines if found == name]


class HeadReader:
    """Collects one head, looking at each byte once. `rest` is what came after the head, once that is complete.

    Reused for the next request of a connection, it remembers the last head: many clients repeat it, or all but its
    first line.
    """

    __slots__ = ("_buffer", "_head", "_line_seen", "_raw_block", "_raw_head", "_start", "rest")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0  # behind empty lines that RFC 9112 section 2.2 lets a client send first
        self._line_seen = False
        self._raw_head = self._raw_block = b""
        self._head: RequestHead | None = None
        self.rest = b""

    def feed(self, data: bytes) -> RequestHead | None:
        """The head when it is complete, None before; WireError as soon as it cannot become a good one.

        After a head it may be called again, for the next one; after an error not.
        """
        buffer = self._buffer
        if not buffer and self._head is not None and data.startswith(self._raw_head):
            self.rest = data[len(self._raw_head) :]
            return self._head
        seen = len(buffer)
        buffer += data
        while buffer.startswith(b"\r\n", self._start) and self._start < MAX_HEAD:
            self._start += 2
        new = max(self._start, seen - 3)
        end = buffer.find(b"\r\n\r\n", new, MAX_HEAD) + 4
        complete = end > 3
        if not complete:
            end = min(len(buffer), MAX_HEAD)
        _check_line_ends(buffer, max(self._start, seen), end)
        if not self._line_seen:
            self._line_seen = _check_request_line(buffer, self._start, new, end)
        if not complete:
            if len(buffer) >= MAX_HEAD:
                raise _refused(431, "the head is too large")
            return None
        self.rest = bytes(buffer[end:])
        head = bytes(buffer[self._start : end])
        self._buffer = bytearray()
        self._start = 0
        self._line_seen = False
        return self._read(head, end)

    def _read(self, raw: bytes, length: int) -> RequestHead:
        method, version, target = _checked(raw)
        raw_block = raw[raw.index(b"\r\n") + 2 :]
        last = self._head
        if last is not None and raw_block == self._raw_block and version == last.version:
            block = last.block
        else:
            block = _block(raw_block, version)
        head = _head(method, version, target, length, block)
        if length == len(raw) <= REMEMBERED:
            self._head, self._raw_head, self._raw_block = head, raw, raw_block
        return head


def parse_head(data: bytes) -> RequestHead | None:
    """The head at the start of `data` (all bytes from the first one on), as from HeadReader."""
    return HeadReader().feed(data)


def _refused(status: int, why: str, **headers: str) -> WireError:
    text = f"{status} {HTTPStatus(status).phrase}\n"
    return WireError(f"HTTP request: {why}", response(status, text.encode("ascii"), headers))


def _check_line_ends(buffer: bytearray, start: int, end: int) -> None:
    """Refuses a LF without its CR: who takes it for the end of a line sees another message than who does not."""
    lines = buffer.count(b"\n", start, end)
    if not lines:
        return
    if buffer.startswith(b"\n", start):
        # Its CR may have come with the bytes before.
        if start == 0 or buffer[start - 1] != 13:
            raise _refused(400, "a line ends without CR")
        lines -= 1
    if buffer.count(b"\r\n", start, end) != lines:
        raise _refused(400, "a line ends without CR")


def _check_request_line(buffer: bytearray, start: int, new: int, end: int) -> bool:
    """Whether the request line is whole; refuses what cannot become one, or is not for us (RFC 9112 section 3)."""
    stop = buffer.find(b"\r\n", new, end)
    if stop < 0:
        # Only its beginning, or a line that comes byte by byte would be looked at again for each.
        begun = buffer[start : min(end, start + _TELLING)]
        # A CR may be the first half of an empty line before the request.
        if begun != b"\r" and not _UNFINISHED_LINE.fullmatch(begun):
            raise _refused(400, "not a request line")
        return False
    line = _REQUEST_LINE.fullmatch(buffer, start, stop)
    if line is None:
        raise _refused(400, "not a request line")
    method, major, minor = line[1], line[3], line[4]
    if major != b"1" or minor not in b"01":
        raise _refused(505, "another version of HTTP")
    if method == b"CONNECT":
        raise _refused(405, "CONNECT", Allow="GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    return True


class _Line:
    """What llhttp found in the first line, and whether it saw the last one."""

    __slots__ = ("complete", "target")

    def __init__(self) -> None:
        self.target = b""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_headers_complete(self) -> None:
        self.complete = True


def _checked(head: bytes) -> tuple[str, str, str]:
    """(method, version, target) of `head`, from its request line to its empty line, whose line ends are known to be
    sound; llhttp is the judge of its syntax.
    """
    line = _Line()
    parser = httptools.HttpRequestParser(line)
    try:
        parser.feed_data(head)
    except httptools.HttpParserInvalidMethodError as error:
        raise _refused(501, "an unknown method") from error
    except httptools.HttpParserUpgrade:
        pass  # an offer, which a server is free to leave unanswered (RFC 9110 section 7.8)
    except httptools.HttpParserError as error:
        raise _refused(400, str(error)) from error
    if not line.complete:
        raise _refused(400, "an incomplete head")
    return parser.get_method().decode("ascii"), parser.get_http_version(), line.target.decode("ascii")


def _block(raw: bytes, version: str) -> Block:
    lines = split(raw)
    hosts = [value(line) for name, line in lines if name == "host"]
    if len(hosts) > 1 or (not hosts and version != "1.0"):
        raise _refused(400, "no Host" if not hosts else "several Hosts")
    host, port = _host(hosts[0]) if hosts else (None, None)
    chunked, content_length = _body(lines, version)
    connection = options(lines, "connection")
    upgrade = ""
    if "upgrade" in connection:
        upgrade = ", ".join(value(line) for name, line in lines if name == "upgrade").lower()
    expect = ", ".join(value(line) for name, line in lines if name == "expect").lower()
    return Block(tuple(lines), host, port, chunked, content_length, connection, upgrade, expect)


def _head(method: str, version: str, target: str, length: int, block: Block) -> RequestHead:
    authority, path, query = _target(method, target)
    host, port = block.host, block.port
    if authority is not None:
        host, port = _host(authority)  # RFC 9112 section 3.2.2: it wins over Host, which has been checked all the same
    return RequestHead(
        method=method,
        target=target,
        path=path,
        query=query,
        version=version,
        host=host,
        port=port,
        keep_alive="close" not in block.connection and (version == "1.1" or "keep-alive" in block.connection),
        has_body=block.chunked or bool(block.content_length),
        content_length=block.content_length,
        length=length,
        absolute=authority is not None,
        block=block,
    )


def _target(method: str, target: str) -> tuple[str | None, str, str]:
    """(authority, path, query) of a target in one of the forms of RFC 9112 section 3.2."""
    if "#" in target:
        raise _refused(400, "a fragment in the target")
    if target.startswith("/"):
        path, _, query = target.partition("?")
        return None, path, query
    if target == "*" and method == "OPTIONS":
        return None, "*", ""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise _refused(400, "a malformed target")
    nothing = "*" if method == "OPTIONS" and absolute[4] is None else "/"  # RFC 9112 section 3.2.4
    return absolute[2], absolute[3] or nothing, absolute[4] or ""


def _host(authority: str) -> tuple[str, int | None]:
    """uri-host [":" port] (RFC 9110 section 7.2); an http URI has a host and no user (4.2.1, 4.2.4)."""
    found = _AUTHORITY.fullmatch(authority.encode("latin-1"))
    if found is None:
        raise _refused(400, "a malformed host")
    try:
        host = _ipv6_literal(found[1]) if found[1].startswith(b"[") else host_name(found[1])
    except ValueError as error:
        raise _refused(400, f"a malformed host: {error}") from error
    port = int(found[2]) if found[2] else None
    if port is not None and not 0 < port < 65536:
        raise _refused(400, "a host's port is none")
    return host, port


def _ipv6_literal(bracketed: bytes) -> str:
    return f"[{IPv6Address(bracketed[1:-1].decode('ascii'))}]"


def _body(lines: list[Line], version: str) -> tuple[bool, int | None]:
    """(chunked, content_length) by RFC 9112 section 6; llhttp has refused both framings at once, and repeated ones."""
    codings = [value(line) for name, line in lines if name == "transfer-encoding"]
    if codings:
        if version == "1.0":
            raise _refused(400, "Transfer-Encoding in HTTP/1.0")
        if [coding.lower() for coding in codings] != ["chunked"]:
            last = codings[-1].rpartition(",")[2].strip(" \t").lower()
            raise _refused(501 if last == "chunked" else 400, "a transfer coding other than chunked")
    lengths = [value(line) for name, line in lines if name == "content-length"]
    if len(lengths) + len(codings) > 1 or (lengths and not (lengths[0].isascii() and lengths[0].isdigit())):
        raise _refused(400, "the body is framed in two ways")
    return bool(codings), int(lengths[0]) if lengths else None
