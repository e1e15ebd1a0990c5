"""The fields of one head: what the lines between the first one and the empty one say, and how they are changed.

Contract: `split` takes a block whose syntax and line ends are known to be sound (llhttp has seen it) and gives its
lines; nothing here raises for what a peer may send. `Fields` is such a list, to look at and to change.

RFC 9110 sections 5 (fields), 7.6.1 (Connection and what else is for one connection only); RFC 9112 section 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dcrouter.wire.http1.answer import check_header

Line = tuple[str, bytes]
"""(name in lower case, the whole line as it came, without its CRLF)."""

HOP_BY_HOP = frozenset(
    (
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    )
)
"""What is said to the next hop only (RFC 9110 section 7.6.1, and what older software sends like that)."""

KEPT = frozenset(
    ("content-length", "host", "content-type", "content-encoding", "authorization", "cookie", "set-cookie")
)
"""Fields that an option in Connection does not take away: whoever could remove them would change what is meant."""


def split(block: bytes) -> list[Line]:
    """The lines of `block`, each of which ends with CRLF."""
    lines: list[Line] = []
    known = KNOWN.get
    for line in block.split(b"\r\n"):
        name, colon, _ = line.partition(b":")
        if colon:
            lines.append((known(name) or lower(name), line))
    return lines


KNOWN: dict[bytes, str] = {}
"""Names as they are compared, of all spellings seen so far. Bounded, or clients could fill memory with them."""
_MOST_KNOWN, _LONGEST_KNOWN = 1024, 40


def lower(name: bytes) -> str:
    """A field's name as it is compared; KNOWN may have it already."""
    low = name.decode("latin-1").lower()
    if len(KNOWN) < _MOST_KNOWN and len(name) <= _LONGEST_KNOWN:
        KNOWN[name] = low
    return low


def value(line: bytes) -> str:
    """What a line says, one character per byte."""
    return line.partition(b":")[2].strip(b" \t").decode("latin-1")


def field(name: str, text: str) -> Line:
    """A line that says `text`; ValueError as from `check_header`."""
    check_header(name, text)
    return name.lower(), f"{name}: {text.strip()}".encode("latin-1")


def options(lines: Iterable[Line], name: str) -> frozenset[str]:
    """The members of a list field such as Connection, in lower case, from all its lines."""
    return frozenset(
        option
        for found, line in lines
        if found == name
        for part in value(line).split(",")
        if (option := part.strip(" \t").lower())
    )


class Fields:
    """A head's fields, in order. Names are given in any case; values are text, one character per byte on the wire."""

    __slots__ = ("lines",)

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.lines = list(lines)

    def get(self, name: str) -> str | None:
        """The first value of `name`, or None."""
        name = name.lower()
        return next((value(line) for found, line in self.lines if found == name), None)

    def values(self, name: str) -> list[str]:
        """All of them."""
        name = name.lower()
        return [value(line) for found, line in self.lines if found == name]

    def set(self, name: str, text: str) -> None:
        """Let `name` say this and nothing else; ValueError as from `check_header`."""
        made = field(name, text)
        self.remove(name)
        self.lines.append(made)

    def add(self, name: str, text: str) -> None:
        """One more line of `name`; ValueError as from `check_header`."""
        self.lines.append(field(name, text))

    def remove(self, name: str) -> None:
        """Nothing happens where there is none."""
        name = name.lower()
        self.lines = [line for line in self.lines if line[0] != name]

    def __contains__(self, name: str) -> bool:
        name = name.lower()
        return any(found == name for found, _ in self.lines)

    def to_bytes(self) -> bytes:
        """As on the wire, each line with its CRLF."""
        return b"".join([line + b"\r\n" for _, line in self.lines])


_FORBIDDEN_IN_TRAILERS = HOP_BY_HOP | frozenset(
    (
        "authorization",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "set-cookie",
        "trailer",
    )
)
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


def trailers(block: bytes) -> bytes | None:
    """`block`, the lines behind the last chunk, without those that have no business there; None where it is unsound.

    RFC 9110 section 6.5.1: nothing that frames, routes, authenticates or says how to read the content.
    """
    kept = []
    for line in block.split(b"\r\n"):
        if not line:
            continue
        if _TRAILER.fullmatch(line) is None:
            return None
        name = lower(line.partition(b":")[0])
        if name not in _FORBIDDEN_IN_TRAILERS and not name.replace("_", "-").startswith("x-forwarded-"):
            kept.append(line + b"\r\n")
    return b"".join(kept)
