"""A message written anew for who does not take it as it is: 8-bit or binary content as quoted-printable or base64.

Contract: `conversion` gives a whole message that says the same; WireError where that cannot be: a header beyond ASCII,
a multipart/signed or multipart/encrypted part that would change (whoever signed it signed these octets), content that
contradicts its own encoding. Each part is converted for itself and only where it has to be; a boundary is never inside
of what is encoded, so the structure stays. DKIM signatures of the message break, which is what signers who send 8-bit
content take upon themselves (RFC 6376 5.3). It is work in steps (net/slices), for a large message takes its time.

RFC 6152 3 (convert or return), RFC 3030 3, RFC 2045 5, 6, RFC 2046 5, RFC 1847 2.1, RFC 1428 (unknown-8bit).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Generator, Iterator
from itertools import islice
from typing import NamedTuple

from dcrouter.errors import WireError

MAX_DEPTH = 50
"""Parts within parts."""

MAX_PARTS = 10_000
MAX_HEAD = 256 * 1024
"""Octets of one header block."""

MAX_WORK = 10
"""How often all octets may be looked at, on average: what is deep and large at once is nobody's mail."""

MAX_LINE = 998

_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)(?:\r\n|\Z)", re.MULTILINE)
_TYPE = re.compile(rb"\s*([!#$%&'*+.^_`{|}~0-9a-z-]+)\s*/\s*([!#$%&'*+.^_`{|}~0-9a-z-]+)", re.IGNORECASE)
_BOUNDARY = re.compile(rb";\s*boundary\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]+))", re.IGNORECASE | re.DOTALL)
_BASE64_LINE = 57
_STEP = 1000 * _BASE64_LINE
_MARKS = 200
"""Octets that are encoded, and boundaries that are found, at a time: less than a millisecond."""

_IDENTITY = (b"7bit", b"8bit", b"binary")


class _Type(NamedTuple):
    main: bytes
    sub: bytes
    boundary: bytes = b""


_TEXT = _Type(b"text", b"plain")
_MESSAGE = _Type(b"message", b"rfc822")


Octets = Generator[None, None, bytes]
"""Work in steps, whose result they are."""


def conversion(message: bytes, *, eightbit: bool = False) -> Octets:
    """As lines of ASCII, none too long; with `eightbit` octets above 127 may stay. Raises WireError."""
    return _Conversion(eightbit, MAX_WORK * len(message) + MAX_HEAD).entity(message, _TEXT, 0)


class _Conversion:
    """One message's. `work`: octets that may be looked at yet."""

    def __init__(self, eightbit: bool, work: int) -> None:
        self._eightbit = eightbit
        self._work = work
        self._parts = 0

    def entity(self, octets: bytes, default: _Type, depth: int) -> Octets:
        yield
        eightbit = self._eightbit
        if not _must_change(octets, eightbit) and depth:
            return octets
        self._work -= len(octets)
        if depth > MAX_DEPTH or self._work < 0:
            raise WireError("parts within parts without end")
        head, body = _split(octets)
        if len(head) > MAX_HEAD:
            raise WireError(f"a header of more than {MAX_HEAD} octets")
        if _must_change(head, eightbit):
            raise WireError("a header is not ASCII, or has lines that are too long")
        found = {name.lower(): value.strip() for name, value in reversed(_FIELD.findall(head))}
        said = b"content-type" in found
        kind = _type(found[b"content-type"]) if said else default
        encoding = found.get(b"content-transfer-encoding", b"7bit").lower()
        if not _must_change(body, eightbit):
            return _labelled(head, b"7bit" if body.isascii() else b"8bit", encoding) + b"\r\n" + body
        if encoding not in _IDENTITY:
            raise WireError(f"content that is not {encoding.decode('ascii', 'replace')} as it says")
        if kind.main == b"multipart":
            if kind.sub in (b"signed", b"encrypted"):
                raise WireError(f"multipart/{kind.sub.decode()} must not be changed")
            body = yield from self._multipart(body, kind, depth)
        elif kind.main == b"message" and kind.sub in (b"rfc822", b"news"):
            body = yield from self.entity(body, _TEXT, depth + 1)
        elif kind.main == b"message" and not kind.sub.startswith(b"global"):
            raise WireError(f"message/{kind.sub.decode()} is not to be encoded")
        else:
            return (yield from _leaf(head, body, kind, said=said, mime=b"mime-version" in found, top=not depth))
        return _labelled(head, b"7bit" if body.isascii() else b"8bit", encoding) + b"\r\n" + body

    def _multipart(self, body: bytes, kind: _Type, depth: int) -> Octets:
        eightbit = self._eightbit
        if not kind.boundary:
            raise WireError("a multipart without a boundary")
        default = _MESSAGE if kind.sub == b"digest" else _TEXT
        marks = []
        for mark in islice(_marks(body, kind.boundary), MAX_PARTS + 1):
            marks.append(mark)
            if len(marks) % _MARKS == 0:
                yield
        self._parts += len(marks)
        if not marks or self._parts > MAX_PARTS:
            raise WireError("a multipart without parts" if not marks else f"more than {MAX_PARTS} parts")
        pieces = [_unread(body[: marks[0].start()], eightbit)]
        for at, found in enumerate(marks):
            pieces.append(found[0])
            end = marks[at + 1].start() if at + 1 < len(marks) else len(body)
            content = body[found.end() : end]
            if found[1] is not None:
                pieces.append(_unread(body[found.end() :], eightbit))
                break
            # The CRLF before a boundary belongs to it (RFC 2046 5.1.1).
            last = b"\r\n" if content.endswith(b"\r\n") and at + 1 < len(marks) else b""
            part = content[: len(content) - len(last)] if last else content
            pieces += [(yield from self.entity(part, default, depth + 1)), last]
        return b"".join(pieces)


def _must_change(octets: bytes, eightbit: bool) -> bool:
    if not (eightbit or octets.isascii()):
        return True
    return not _is_lines(octets) or _has_long_line(octets)


def _has_long_line(octets: bytes) -> bool:
    """Of lines that end with CRLF: from one that is as far away as may be to the next such."""
    at = 0
    while len(octets) - at > MAX_LINE:
        end = octets.rfind(b"\r\n", at, at + MAX_LINE + 2)
        if end < 0:
            return True
        at = end + 2
    return False


def _is_lines(octets: bytes) -> bool:
    """Whether CR and LF stand side by side only, and there is no NUL: an expression would take ten times as long."""
    return octets.count(b"\r\n") == octets.count(b"\r") == octets.count(b"\n") and b"\0" not in octets


def _split(octets: bytes) -> tuple[bytes, bytes]:
    """The header block with its last CRLF, and the body behind the empty line."""
    if octets.startswith(b"\r\n"):
        return b"", octets[2:]
    head, mark, body = octets.partition(b"\r\n\r\n")
    if mark:
        return head + b"\r\n", body
    return (head if head.endswith(b"\r\n") or not head else head + b"\r\n"), b""


def _type(value: bytes) -> _Type:
    found = _TYPE.match(value)
    if found is None:
        return _TEXT  # RFC 2045 5.2
    boundary = _BOUNDARY.search(value)
    text = b""
    if boundary is not None:
        text = re.sub(rb"\\(.)", rb"\1", boundary[1]) if boundary[1] is not None else boundary[2]
    return _Type(found[1].lower(), found[2].lower(), text)


def _marks(body: bytes, boundary: bytes) -> Iterator[re.Match[bytes]]:
    """The lines that are this boundary, in order; group 1: it is the last (RFC 2046 5.1.1)."""
    line = b"--" + boundary
    behind = re.compile(re.escape(line) + rb"(--)?[ \t]*(?:\r\n|\Z)")
    at = 0 if body.startswith(line) else body.find(b"\r\n" + line) + 2
    for _ in range(2 * MAX_PARTS):
        if at == 1:  # not found
            return
        found = behind.match(body, at)
        if found is not None:
            yield found
        at = body.find(b"\r\n" + line, at) + 2
    raise WireError(f"more than {MAX_PARTS} parts")


def _unread(octets: bytes, eightbit: bool) -> bytes:
    """What stands before the first part and behind the last, which nobody shows."""
    return b"" if _must_change(octets, eightbit) else octets


def _leaf(head: bytes, body: bytes, kind: _Type, *, said: bool, mime: bool, top: bool) -> Octets:
    plain = kind.main in (b"text", b"message") and _is_lines(body)
    yield
    encoding, encode = (b"quoted-printable", _quoted) if plain else (b"base64", _base64)
    encoded = yield from encode(body)
    if top and not mime:
        head += b"MIME-Version: 1.0\r\n"
    if not said and kind.main == b"text":
        head += b"Content-Type: text/plain; charset=unknown-8bit\r\n"
    return _labelled(head, encoding, b"") + b"\r\n" + encoded


def _labelled(head: bytes, encoding: bytes, said: bytes) -> bytes:
    """The header with this encoding of what is behind it, in the place of what it `said`."""
    if said == encoding or (said not in (b"", b"8bit", b"binary") and encoding in _IDENTITY):
        return head
    head = _FIELD.sub(lambda found: b"" if found[1].lower() == b"content-transfer-encoding" else found[0], head)
    if encoding == b"7bit":
        return head
    return head + b"Content-Transfer-Encoding: " + encoding + b"\r\n"


def _quoted(body: bytes) -> Octets:
    """Whole lines at a time."""
    pieces = []
    at = 0
    while at < len(body):
        end = body.find(b"\n", at + _STEP) + 1 or len(body)
        pieces.append(binascii.b2a_qp(body[at:end].replace(b"\r\n", b"\n"), istext=True).replace(b"\n", b"\r\n"))
        at = end
        yield
    return b"".join(pieces)


def _base64(body: bytes) -> Octets:
    pieces = []
    for step in range(0, len(body), _STEP):
        for at in range(step, min(step + _STEP, len(body)), _BASE64_LINE):
            pieces.append(binascii.b2a_base64(body[at : at + _BASE64_LINE], newline=False) + b"\r\n")
        yield
    return b"".join(pieces)
