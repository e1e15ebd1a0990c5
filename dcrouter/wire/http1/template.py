"""Text with placeholders, `{client_ip}`: read once, filled in for each request.

Contract: `parse` gives the pieces, or raises ValueError; `{{` and `}}` stand for a brace. `printable` is for values
that may hold anything, before they become part of a field (RFC 9110 section 5.5).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import quote

Pieces = tuple[tuple[str, str], ...]
"""(text, name of the placeholder behind it, "" where there is none)."""

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


def parse(text: str, known: Collection[str]) -> Pieces:
    """The pieces of `text`; ValueError for a placeholder that is not one of `known`, and for half a pair of braces."""
    pieces: list[tuple[str, str]] = []
    plain, at = "", 0
    for found in _BRACES.finditer(text):
        plain += text[at : found.start()]
        at = found.end()
        if found[0] in ("{{", "}}"):
            plain += found[0][0]
        elif found[1] in known:
            pieces.append((plain, found[1]))
            plain = ""
        elif found[1] is None:
            raise ValueError("a brace without its other half: {{ and }} stand for braces")
        else:
            choice = " ".join(f"{{{one}}}" for one in known)
            raise ValueError(f"{{{found[1][:64]}}} is not one of {choice}; {{{{ and }}}} stand for braces")
    plain += text[at:]
    if plain or not pieces:
        pieces.append((plain, ""))
    return tuple(pieces)


def printable(text: str) -> str:
    """`text` as visible ASCII and spaces, everything else percent-encoded as UTF-8."""
    return text if text.isascii() and text.isprintable() else quote(text, safe=_PRINTABLE.replace("%", ""))
