"""How long next hops are waited for."""

from __future__ import annotations

from attrs import frozen

from dcrouter.mail.delivery.client import TIMEOUTS
from dcrouter.wire.smtp.client import Phase

DOWN = 10.0
"""Seconds for which a next hop that could not be reached is not tried again; less where mail is tried again sooner."""


@frozen(kw_only=True)
class Patience:
    """Seconds: `connect` for a connection to open, `replies` for each phase after that, `down` as DOWN."""

    connect: float = 30.0
    replies: dict[Phase, float] = TIMEOUTS
    down: float = DOWN
