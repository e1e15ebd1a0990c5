"""xtext, in which values of parameters carry what could not stand there (RFC 3461 4)."""

from __future__ import annotations

import re

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_NO_XCHAR = re.compile(r"[^!-*,-<>-~]")
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")


def from_xtext(value: str) -> str | None:
    """What `value` carries, a character for each octet; None where it is no xtext."""
    if _XTEXT.fullmatch(value) is None:
        return None
    return _HEXCHAR.sub(lambda found: chr(int(found[1], 16)), value)


def to_xtext(text: str) -> str:
    """Of ASCII."""
    return _NO_XCHAR.sub(lambda found: f"+{ord(found[0]):02X}", text)
