"""All guards of one mail process, as its configuration says; what they have learnt outlives a reload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.config.mail import Email
from dcrouter.mail.server.guards.ledger import Ledger
from dcrouter.mail.server.guards.limits import RateLimits, Tally, Told


class Guards:
    """`directory`: where the ledger is. `now`: UTC epoch seconds. `told` hears of alerts."""

    def __init__(
        self,
        directory: Path,
        reactor: Any,
        now: Callable[[], float],
        in_thread: Callable[..., Deferred[Any]],
        told: Told | None = None,
    ) -> None:
        self._ledger = Ledger(directory, reactor, now, in_thread)
        self.limits = RateLimits(self._ledger, reactor.seconds, now, told)

    def reload(self, email: Email) -> None:
        """As another configuration says, from the next command of each client on."""
        self.limits.reload(email.rate_limits)

    def close(self) -> None:
        """Makes durable what is not yet; blocks."""
        self._ledger.close()

    def tally(self, session: str, size: int) -> Tally | None:
        """For a message that begins; None where nothing is guarded."""
        return Tally(session, size) if self.limits else None
