"""`tag=value; tag=value`: how signatures, keys and policies are written. RFC 6376 3.2."""

from __future__ import annotations

import base64
import binascii
import re

from dcrouter.errors import WireError

MAX_TAGS = 100

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VALUE = re.compile(r"[!-:<-~ \t\r\n]*")
_BLANK = re.compile(r"[ \t\r\n]+")


def parse(text: str) -> dict[str, str]:
    """The values by their tags, without blanks around them; raises WireError, also for a tag that is there twice."""
    found: dict[str, str] = {}
    parts = text.split(";", MAX_TAGS + 1)
    if not parts[-1].strip(" \t\r\n"):
        parts.pop()
    if len(parts) > MAX_TAGS:
        raise WireError("too many tags")
    for part in parts:
        tag, equals, value = part.partition("=")
        tag, value = tag.strip(" \t\r\n"), value.strip(" \t\r\n")
        if not equals or _TAG.fullmatch(tag) is None or _VALUE.fullmatch(value) is None:
            raise WireError(f"{part.strip()[:40]!r} is no tag")
        if tag in found:
            raise WireError(f"{tag}= is there twice")
        found[tag] = value
    return found


def octets(value: str) -> bytes:
    """What a base64 value says; blanks may be anywhere in it. Raises WireError."""
    try:
        return base64.b64decode(without_blanks(value), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"base64: {error}") from error


def without_blanks(value: str) -> str:
    return _BLANK.sub("", value)
