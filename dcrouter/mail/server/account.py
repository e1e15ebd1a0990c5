"""What an SMTP session has cost, and how it ended: kept while it lasts, told when it is over."""

from __future__ import annotations

from typing import Any

from dcrouter.events import EndedBy, SessionClosed, termination
from dcrouter.facts import ConnectionFacts


class Account:
    """One session's. Times are those of the reactor's clock; bytes are counted as SMTP sees them, inside of TLS."""

    __slots__ = ("bytes_in", "bytes_out", "ending", "facts", "tls_seconds")

    def __init__(self, facts: ConnectionFacts) -> None:
        self.facts = facts
        self.bytes_in = 0
        self.bytes_out = 0
        self.tls_seconds: float | None = None
        self.ending: tuple[EndedBy, str] | None = None

    def ended(self, ended_by: EndedBy, reason: str) -> None:
        """The first end that is told of is the one that counts."""
        if self.ending is None:
            self.ending = (ended_by, reason)

    def shown(self, now: float) -> dict[str, Any]:
        """What an operator sees of a session that is open, JSON-ready. `now`: UTC epoch seconds."""
        return self.facts.shown(now, target=None, bytes_in=self.bytes_in, bytes_out=self.bytes_out, phase="smtp")

    def close(self, seconds: float) -> SessionClosed:
        """The whole, after `seconds`; a session whose end nobody told of was ended by its client."""
        ended_by, reason = self.ending or ("client", "connection closed")
        phases = {} if self.tls_seconds is None else {"tls": round(self.tls_seconds, 6)}
        phases["smtp"] = round(seconds - (self.tls_seconds or 0.0), 6)
        return SessionClosed(
            **self.facts.to_plain(),
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            phases=phases,
            ended_by=ended_by,
            termination=termination(ended_by, "smtp", reason),
            reason=reason,
        )
