"""How the TLS of a session with an exchanger went, for who counts that (mail/tlsreports)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import frozen

from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.wire.tlsrpt import FailureType


@frozen(kw_only=True)
class Seen:
    """One session with `hop`, at `address`, from `ours`. `failure`: how its TLS failed, None: it did not; `reason` in
    words.
    """

    hop: NextHop
    address: str
    ours: str
    failure: FailureType | None = None
    reason: str = ""


Observe = Callable[[Iterable[str], Seen], None]
"""Hears of a session that carries, or should have carried, mail for recipients at these domains."""
