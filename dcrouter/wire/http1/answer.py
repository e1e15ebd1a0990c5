"""A whole HTTP/1.1 response, as bytes, for a connection that closes after it.

Contract: `response` gives it, well-formed whatever the caller passes, or raises ValueError: no value can add a line.

RFC 9110 sections 5.5 (field values), 6.6.1 (Date), 8.6 (Content-Length), 9.3.2 (HEAD), 15 (status codes);
RFC 9112 sections 4 (status line), 6.3 (length of the body), 9.6 (close).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset(("connection", "content-length", "transfer-encoding", "upgrade"))
_NO_HEADERS: Mapping[str, str] = {}


def response(
    status: int,
    body: bytes = b"",
    headers: Mapping[str, str] = _NO_HEADERS,
    *,
    method: str = "GET",
    now: float | None = None,
) -> bytes:
    """The response to a request of `method`, `headers` behind ours; `now`: UTC epoch seconds, None: by the clock.

    Content-Type is text/plain in UTF-8 unless `headers` say otherwise, Date likewise. The body is left out for HEAD,
    1xx, 204 and 304. ValueError for a status that is none and for headers that `check_header` refuses.
    """
    if not 100 <= status <= 999:
        raise ValueError(f"{status} is not a status code")
    given = set()
    lines = []
    for name, value in headers.items():
        check_header(name, value)
        given.add(name.lower())
        lines.append(f"{name}: {value.strip()}")
    first = [f"HTTP/1.1 {status} {reason(status)}"]
    if "date" not in given:
        first.append(f"Date: {date(int(time.time() if now is None else now))}")
    bodiless = status < 200 or status in (204, 304)
    if not bodiless:
        if "content-type" not in given:
            first.append("Content-Type: text/plain; charset=utf-8")
        first.append(f"Content-Length: {len(body)}")
    first.append("Connection: close")
    head = "\r\n".join((*first, *lines, "\r\n")).encode("latin-1")
    return head if bodiless or method == "HEAD" else head + body


def check_header(name: str, value: str) -> None:
    """ValueError where `name: value` can be no header of a response, or is one that frames it and so is ours to set."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not a header's name")
    if _VALUE.fullmatch(value) is None:
        raise ValueError(f"the value of header {name} holds a character that no header can")
    if name.lower() in _OURS:
        raise ValueError(f"header {name} frames the response and cannot be set")


@lru_cache(maxsize=1024)
def reason(status: int) -> str:
    """The phrase of a status, "" where it has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


@lru_cache(maxsize=2)
def date(second: int) -> str:
    """UTC epoch seconds as in Date (RFC 9110 section 5.6.7)."""
    return formatdate(second, usegmt=True)
