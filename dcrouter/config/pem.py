"""Whether a PEM file is all there (RFC 7468): parsers take what stands before a block that is cut off as the whole."""

from __future__ import annotations

import re

_END = re.compile(rb"-----END [A-Z0-9 ]+-----")


def is_whole(text: bytes) -> bool:
    """Whether every block that begins has its end: a chain whose issuers are still being written is none yet."""
    return text.count(b"-----BEGIN ") == len(_END.findall(text))
