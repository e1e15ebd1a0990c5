"""Lines of a mail's header: fields folded, and what may be quoted of somebody else's header.

RFC 5322 2.1.1 (line lengths), 2.2.3 (folding), 3.6.4 (Message-ID).
"""

from __future__ import annotations

import re

MAX_LINE = 998
"""Octets of a line without its CRLF (RFC 5321 4.5.3.1.6)."""

_LINE = 76
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
_UNPRINTABLE_UTF8 = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_MESSAGE_ID = re.compile(rb"(?im)^message-id:[ \t]*(?:\r\n[ \t]+)?(<[\x21-\x3b\x3d\x3f-\x7e]{1,240}>)[ \t]*\r$")
_KEPT = re.compile(rb"(?im)^(?:message-id|date|from|to|cc):[^\n]*\n(?:[ \t][^\n]*\n)*")


def header_of(octets: bytes) -> bytes:
    """The header of a message, up to its empty line; where that is not in `octets`, as many whole fields as are."""
    if octets.startswith(b"\r\n"):
        return b""
    head, end, _ = octets.partition(b"\r\n\r\n")
    if end:
        return head + b"\r\n"
    cut = octets.rfind(b"\r\n") + 2
    while cut > 2 and octets[cut : cut + 1] in (b" ", b"\t"):  # the field goes on behind the cut
        cut = octets.rfind(b"\r\n", 0, cut - 2) + 2
    return octets[: max(cut, 0)] if cut > 1 else b""


def message_id(original: bytes) -> str | None:
    """The Message-ID of a message, None where it has none that could be quoted."""
    found = _MESSAGE_ID.search(header_of(original))
    return found[1].decode("ascii") if found else None


def without_content(header: bytes) -> bytes:
    """Of a header block only what tells which message it was, and whose."""
    return b"".join(field[0] for field in _KEPT.finditer(header))


def folded(field: str, *, utf8: bool = False) -> list[str]:
    """A header field in lines of at most 76 characters where it has spaces, and of 998 octets where it has none."""
    text = printable(field, utf8=utf8)
    longest = MAX_LINE // 4 if utf8 else MAX_LINE
    lines: list[str] = []
    while len(text) > _LINE:
        at = text.rfind(" ", 1, _LINE)
        if at <= 0 or not text[:at].strip():
            at = text.find(" ", _LINE)
        if at <= 0 or at > longest - 1:
            at = min(len(text), longest - 1)
        line, text = text[:at], text[at:].lstrip(" ")
        lines.append(line if not lines else f" {line.lstrip()}")
    if text or not lines:
        lines.append(text if not lines else f" {text}")
    return lines


def printable(text: str, *, utf8: bool = False) -> str:
    """What could break out of its line becomes a space or `?`; so does all beyond ASCII, but for `utf8`."""
    wrong = _UNPRINTABLE_UTF8 if utf8 else _UNPRINTABLE
    return wrong.sub(lambda found: " " if found[0].isspace() else "?", text)
