"""How long next hops are waited for."""

from __future__ import annotations

from attrs import frozen

from dcrouter.wire.smtp.client import Phase

TIMEOUTS: dict[Phase, float] = {
    "greeting": 300.0,
    "ehlo": 300.0,
    "helo": 300.0,
    "starttls": 120.0,
    "tls": 60.0,
    "auth": 120.0,
    "rset": 300.0,
    "mail": 300.0,
    "rcpt": 300.0,
    "data": 120.0,
    "body": 180.0,
    "final": 600.0,
    "quit": 5.0,
    "idle": 10.0,
}
"""Seconds to wait for each reply, RFC 5321 4.5.3.2; `body`: between blocks. `tls` (the handshake), `auth`, `idle` and
`quit` are ours: the last two free the next hop.
"""

WHOLE = 1800.0
"""Seconds for all replies before a message, however many, and again for all behind it: 18 for each of 100 recipients.
Every single one may come as late as TIMEOUTS has it, all of them would hold a connection for a day.
"""

DOWN = 10.0
"""Seconds for which a next hop that could not be reached is not tried again; less where mail is tried again sooner."""


@frozen(kw_only=True)
class Patience:
    """Seconds: `connect` for a connection to open, `replies` for each phase after that, `whole` as WHOLE, `down` as
    DOWN.
    """

    connect: float = 30.0
    replies: dict[Phase, float] = TIMEOUTS
    whole: float = WHOLE
    down: float = DOWN
