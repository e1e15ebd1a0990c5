"""What a client is told where nobody else answers: the status in words, and no more. Why is in the access log."""

from __future__ import annotations

from functools import lru_cache

from dcrouter.wire.http1.answer import reason


@lru_cache(maxsize=64)
def page(status: int) -> bytes:
    """`502 Bad Gateway`, as a line of plain text."""
    return f"{status} {reason(status)}\n".encode()
