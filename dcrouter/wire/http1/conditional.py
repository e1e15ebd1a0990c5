"""Whether a request wants all of a file, a part of it, or nothing, because it has it already.

Contract: `verdict` and `part` read what the client says and never raise: what is malformed says nothing.

RFC 9110 sections 8.8 (validators), 13 (conditional requests), 14 (ranges).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime

Get = Callable[[str], str | None]
"""The value of a field of the request, by its name in lower case."""

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_RANGE = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)


def verdict(get: Get, etag: str, modified: int) -> int:
    """200, 304 or 412 for GET and HEAD of what has this (strong) entity tag and was changed at `modified` (UTC epoch
    seconds), in the order of section 13.2.2.
    """
    wanted = get("if-match")
    if wanted is not None:
        if not _names(wanted, etag, weak=False):
            return 412
    elif (since := _instant(get("if-unmodified-since"))) is not None and modified > since:
        return 412
    known = get("if-none-match")
    if known is not None:
        return 304 if _names(known, etag, weak=True) else 200
    since = _instant(get("if-modified-since"))
    return 304 if since is not None and modified <= since else 200


def part(get: Get, etag: str, modified: int, size: int) -> tuple[int, int] | None:
    """(first, behind the last) octet that is asked for; None: all of it; (size, size): a part that is not there.

    More than one part at once is answered by the whole, as section 14.2 allows.
    """
    text = get("range")
    if text is None:
        return None
    condition = get("if-range")
    if condition is not None and condition != etag and _instant(condition) != modified:
        return None
    found = _RANGE.fullmatch(text)
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return max(size - int(found[2]), 0) if int(found[2]) else size, size
    first = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    return (first, min(last + 1, size)) if first < size else (size, size)


def _names(text: str, etag: str, *, weak: bool) -> bool:
    """Whether a list of entity tags, or `*`, names this one; `weak`: also as a weak one."""
    if text.strip() == "*":
        return True
    tags = _TAG.findall(text)
    return etag in tags or (weak and f"W/{etag}" in tags)


def _instant(text: str | None) -> int | None:
    """UTC epoch seconds of an HTTP date."""
    if text is None:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
