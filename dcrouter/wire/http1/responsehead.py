"""The head of a response, as a target sends it: checked, framed, and without what was said to us alone.

Contract: `read_response` takes all bytes from the head's first one on and gives the head, None (more are needed) or
raises WireError. Syntax is llhttp's (strict); how long the body is, is decided here, and refused where two readers
could decide it differently: a client behind us may share its connection with others.

RFC 9112 sections 4 (status line), 5 (fields), 6.3 (length of the body), 9.3 (persistence), 11.1 (response splitting);
RFC 9110 sections 7.6.1 (Connection), 15.2.2 (101).
"""

from __future__ import annotations

import re

import httptools

from dcrouter.errors import WireError
from dcrouter.wire.http1.fields import HOP_BY_HOP, KEPT, KNOWN, Line, lower, options, value

MAX_RESPONSE_HEAD = 65536
"""Octets of a response's head; applications with many cookies and a policy of content send 10 KB."""

CHUNKED, UNTIL_CLOSE = -1, -2
"""Lengths of a body that is framed otherwise."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FRAMING = HOP_BY_HOP | {"content-length"}
BODILESS = frozenset((204, 304))


class _Nothing:
    """llhttp is asked for its verdict only."""

    __slots__ = ()


_nothing = _Nothing()


class ResponseHead:
    """One response's head.

    `first`: its status line, of HTTP/1.1, without CRLF. `lines`: the fields that go on to the client, Content-Length
    among them where there is one. `body`: octets of the body, CHUNKED or UNTIL_CLOSE. `keep_alive`: whether the
    connection may be used again. `upgrade`: the protocol that a 101 changes to. `length`: octets that the head took.
    """

    __slots__ = ("body", "first", "keep_alive", "length", "lines", "status", "upgrade")

    def __init__(self, status: int, first: bytes, lines: list[Line], body: int, keep_alive: bool, length: int) -> None:
        self.status = status
        self.first = first
        self.lines = lines
        self.body = body
        self.keep_alive = keep_alive
        self.length = length
        self.upgrade = ""


def read_response(data: bytes, method: str, seen: int = 0) -> ResponseHead | None:
    """The head at the start of `data`, which answers a request of `method`; None while it is incomplete.

    `seen`: how much of it was looked at before. WireError where it is no head, or too long.
    """
    end = data.find(b"\r\n\r\n", max(seen - 3, 0), MAX_RESPONSE_HEAD) + 4
    if end < 4:
        if len(data) >= MAX_RESPONSE_HEAD:
            raise WireError("the head of the response is too large")
        if not data.startswith(b"HTTP/1."[: len(data)]):
            raise WireError("not a response of HTTP/1.1")
        if data.count(b"\n", seen) != data.count(b"\r\n", max(seen - 1, 0)):
            raise WireError("malformed response: a line ends without CR")  # its end would be waited for in vain
        return None
    raw = data[:end]
    try:
        httptools.HttpResponseParser(_nothing).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # told apart below
    except httptools.HttpParserError as error:
        raise WireError(f"malformed response: {error}") from error
    first, *rest = raw.split(b"\r\n")
    line = _STATUS_LINE.fullmatch(first)
    if line is None:
        raise WireError("malformed response: not a status line of HTTP/1.1")
    lines: list[Line] = []
    framing: list[Line] = []
    known = KNOWN.get
    for text in rest:
        name, colon, _ = text.partition(b":")
        if colon:
            low = known(name) or lower(name)
            (framing if low in _FRAMING else lines).append((low, text))
    is_old = line[1] == b"0"
    head = ResponseHead(int(line[2]), b"HTTP/1.1" + first[8:] if is_old else first, lines, UNTIL_CLOSE, not is_old, end)
    _frame(head, framing, method, is_old)
    return head


def _frame(head: ResponseHead, framing: list[Line], method: str, is_old: bool) -> None:
    """Decide the body's length, and what Connection asks for."""
    status = head.status
    closes = False
    for name, line in framing:
        if name == "content-length":
            text = line[15:].strip(b" \t")
            if head.body != UNTIL_CLOSE or not text.isdigit():
                raise WireError("malformed response: its body is framed in two ways")
            head.body = int(text)
            if status >= 200 and status != 204:
                head.lines.append((name, line))
        elif name == "connection":
            said = value(line).lower()
            if said == "close":
                closes = True
            elif said == "keep-alive":
                head.keep_alive = True
            else:
                _connection(head, framing)
        elif name == "transfer-encoding":
            if value(line).lower() != "chunked" or is_old or head.body != UNTIL_CLOSE:
                raise WireError("malformed response: a transfer coding other than chunked")
            head.body = CHUNKED
    if method == "HEAD" or status < 200 or status in BODILESS:
        head.body = 0
    elif head.body == UNTIL_CLOSE:
        closes = True
    if closes:
        head.keep_alive = False
    if status == 101:
        head.upgrade = ", ".join(value(line) for name, line in framing if name == "upgrade")


def _connection(head: ResponseHead, framing: list[Line]) -> None:
    """Other options than the usual two: fields that they name end here."""
    said = options(framing, "connection")
    if "close" in said:
        head.keep_alive = False
    elif "keep-alive" in said:
        head.keep_alive = True
    named = said - KEPT
    head.lines = [line for line in head.lines if line[0] not in named]
