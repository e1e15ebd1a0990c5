"""Authentication-Results: what was found out about who a message is from, and by whom. RFC 8601.

`field` writes one; `without_forged` takes those out of a header that carry our name and cannot be ours (RFC 8601 5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from dcrouter.wire.dkim.canonical import placed

MAX_VALUE = 320
"""Characters of one value: a mail address of full length has them (RFC 5321 4.5.3.1)."""

MAX_LINE = 998
"""Octets of a line, RFC 5322 2.1.1."""

_NAME = "Authentication-Results"
_LOWER = _NAME.lower().encode("ascii")
_BLANK = rb"(?:[ \t\r\n]|\((?:[^()\\]|\\.)*\))*"
_ID = re.compile(
    _BLANK + rb'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^ \t\r\n();"=]++))' + _BLANK + rb"(?:;|[0-9]|\Z)"
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+(?:@[A-Za-z0-9.-]+)?")
_UNFIT = re.compile(r"[^ !#-'*-\[\]-~]")


@frozen
class Entry:
    """One method's result. `comment`: for people, behind the result; `properties`: (name, value), such as
    ("header.d", "example.com").
    """

    method: str
    result: str
    properties: tuple[tuple[str, str], ...] = ()
    comment: str = ""

    def __str__(self) -> str:
        comment = f" ({_fit(self.comment, 100)})" if self.comment else ""
        properties = "".join(f" {name}={_value(value)}" for name, value in self.properties)
        return f"{self.method}={self.result}{comment}{properties}"


def field(hostname: str, entries: Sequence[Entry], room: int | None = None) -> bytes:
    """The whole field, a line for each entry. `room`: octets that it must have exactly, at least MIN_ROOM: the longest
    entries that do not fit are left out, and the rest is blanks within comments.
    """
    lines = [str(entry) for entry in entries] or ["none"]
    written = _written(hostname, lines)
    if room is None:
        return written
    while len(written) > room and len(lines) > 1:
        lines.remove(max(lines, key=len))
        written = _written(hostname, lines)
    if len(written) > room:
        written = _written(hostname, ["none"])
    return _filled(written, room)


MIN_ROOM = 512


def _written(hostname: str, lines: Sequence[str]) -> bytes:
    results = ";\r\n\t".join(lines)
    return f"{_NAME}: {hostname};\r\n\t{results}\r\n".encode("ascii")


def _filled(written: bytes, room: int) -> bytes:
    """With comments of blanks behind it. One takes 5 octets and its blanks."""
    missing = room - len(written)
    if missing < 5:
        return written[:-2] + b" " * missing + b"\r\n"
    filling = b""
    while missing:
        one = missing if missing <= MAX_LINE else min(MAX_LINE, missing - 5)
        filling += b"\t(" + b" " * (one - 5) + b")\r\n"
        missing -= one
    return written + filling


def without_forged(head: bytes, hostname: str) -> bytes:
    """The header block without Authentication-Results that say to be of `hostname`, or of nobody that can be read."""
    if _LOWER not in head.lower():
        return head
    ours = hostname.lower().encode("ascii")
    kept, at = [], 0
    for one, begin, end in placed(head):
        if one.name == _LOWER and authserv_id(one.value) in (ours, None):
            kept.append(head[at:begin])
            at = end
    kept.append(head[at:])
    return b"".join(kept)


def authserv_id(value: bytes) -> bytes | None:
    """Who says so, in lower case and without final dot; None where that cannot be read."""
    found = _ID.match(value)
    if found is None:
        return None
    quoted = found["quoted"]
    name: bytes = found["token"] if quoted is None else _ESCAPED.sub(rb"\1", quoted)
    return name.strip().lower().removesuffix(b".")


def _value(text: str) -> str:
    text = _fit(text, MAX_VALUE)
    return text if _TOKEN.fullmatch(text) else f'"{text}"'


def _fit(text: str, most: int) -> str:
    """Without what would end a comment or a quoted string."""
    return _UNFIT.sub("?", text[:most])
