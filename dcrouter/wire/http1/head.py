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

MAX_HEAD = 16384
"""Bytes of a request's head, the empty line at its end included; browsers with many cookies need half of it."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_UNFINISHED_LINE = re.compile(rb"(?:" + _TOKEN + rb"(?: [\x21-\x7e]*(?: [HTP/0-9.]*\r?)?)?)?")
_TELLING = 32  # the longest method and the beginning of a target
_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?", re.IGNORECASE)
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(?::([0-9]{0,5}))?")


@frozen(kw_only=True)
class RequestHead:
    """One request's head.

    `target`: as sent; `path`: its path as sent ("*" for `OPTIONS *`), `query`: what follows the "?", without it.
    `host`: whom the request is for, lower case and without port, an IPv6 literal in brackets; from the target where
    that names one, else from Host; None only before HTTP/1.1. `port`: the number beside it, None where there is none.
    `headers`: (name in lower case, value), in order, values one character per byte. `keep_alive`: whether the client
    would like another request on this connection. `content_length`: bytes of the body, None where it is chunked or
    absent. `length`: bytes that the head took.
    """

    method: str
    target: str
    path: str
    query: str
    version: str
    host: str | None
    port: int | None
    headers: tuple[tuple[str, str], ...]
    keep_alive: bool
    has_body: bool
    content_length: int | None
    length: int


class HeadReader:
    """Collects one head, looking at each byte once. `rest` is what came after the head, once that is complete."""

    __slots__ = ("_buffer", "_line_seen", "_start", "rest")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0  # behind empty lines that RFC 9112 section 2.2 lets a client send first
        self._line_seen = False
        self.rest = b""

    def feed(self, data: bytes) -> RequestHead | None:
        """The head when it is complete, None before; WireError as soon as it cannot become a good one.

        Not to be called again after it has given a head or raised.
        """
        buffer = self._buffer
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
        return _read(head, end)


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


class _Callbacks:
    """What llhttp found; it calls these names."""

    __slots__ = ("complete", "fields", "keep_alive", "parser", "target")

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.target = b""
        self.complete = self.keep_alive = False
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True
        self.keep_alive = self.parser.should_keep_alive()


def _read(head: bytes, length: int) -> RequestHead:
    """`head` from its request line to its empty line, whose line ends are known to be sound."""
    found = _Callbacks()
    try:
        found.parser.feed_data(head)
    except httptools.HttpParserInvalidMethodError as error:
        raise _refused(501, "an unknown method") from error
    except httptools.HttpParserUpgrade:
        pass  # an offer, which a server is free to leave unanswered (RFC 9110 section 7.8)
    except httptools.HttpParserError as error:
        raise _refused(400, str(error)) from error
    finally:
        parser = found.parser
        del found.parser  # the two hold each other: let them go without the garbage collector
    if not found.complete:
        raise _refused(400, "an incomplete head")
    method = parser.get_method().decode("ascii")
    version = parser.get_http_version()
    target = found.target.decode("ascii")
    headers = tuple(
        (name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")) for name, value in found.fields
    )
    hosts = [value for name, value in headers if name == "host"]
    if len(hosts) > 1 or (not hosts and version != "1.0"):
        raise _refused(400, "no Host" if not hosts else "several Hosts")
    # Checked even where the target names another: RFC 9112 section 3.2.
    host, port = _host(hosts[0]) if hosts else (None, None)
    authority, path, query = _target(method, target)
    if authority is not None:
        host, port = _host(authority)  # RFC 9112 section 3.2.2: it wins over Host
    has_body, content_length = _body(headers, version)
    return RequestHead(
        method=method,
        target=target,
        path=path,
        query=query,
        version=version,
        host=host,
        port=port,
        headers=headers,
        keep_alive=found.keep_alive,
        has_body=has_body,
        content_length=content_length,
        length=length,
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


def _body(headers: tuple[tuple[str, str], ...], version: str) -> tuple[bool, int | None]:
    """(has_body, content_length) by RFC 9112 section 6; llhttp has refused both framings at once, and repeated ones."""
    codings = [value for name, value in headers if name == "transfer-encoding"]
    if codings:
        if version == "1.0":
            raise _refused(400, "Transfer-Encoding in HTTP/1.0")
        if [coding.lower() for coding in codings] != ["chunked"]:
            last = codings[-1].rpartition(",")[2].strip(" \t").lower()
            raise _refused(501 if last == "chunked" else 400, "a transfer coding other than chunked")
        return True, None
    for name, value in headers:
        if name == "content-length":
            return int(value) > 0, int(value)
    return False, None
