"""All that decides how mail leaves, as one object: limits, sources, pauses, and what triggers those."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from dcrouter.config.mail import Email
from dcrouter.config.rates import Rate
from dcrouter.config.zones import Source
from dcrouter.mail.delivery.outcome import Postponed
from dcrouter.mail.ledger import Ledger
from dcrouter.mail.queue.waits import PAUSED, RATE
from dcrouter.mail.shaping.limits import Limits
from dcrouter.mail.shaping.pauses import ALL, InThread, Pause, Pauses
from dcrouter.mail.shaping.reactions import Reactions
from dcrouter.mail.shaping.sources import Sources
from dcrouter.mail.shaping.spent import Spent

AGAIN_AFTER = 3600.0
"""Seconds after which mail that stands still looks again, should nobody wake it (after a restart, for one)."""

BIND_AGAIN = 300.0
"""Seconds for which a source that cannot be bound is not used."""


class Shaping:
    """`recovered` hears the name of what mail may go on for. `now`: UTC epoch seconds. `open` and `close` frame it."""

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        clock: IReactorTime,
        now: Callable[[], float],
        in_thread: InThread,
        recovered: Callable[[str], None],
    ) -> None:
        self.limits = Limits(clock, recovered, spent=Spent(ledger, now))
        self.pauses = Pauses(directory, clock, now, in_thread)
        self.sources = Sources(ledger, self.pauses, now)
        self.reactions = Reactions(self.pauses, now)
        self.stands_still: Callable[[Pause], None] = lambda pause: None
        self._recovered = recovered
        self._now = now
        self.limits.braked = self._braked
        self.pauses.began = self._began
        self.pauses.ended = self._ended

    def open(self) -> None:
        """Takes up what an earlier run left; blocks."""
        self.pauses.open()

    def reload(self, email: Email) -> None:
        """As another configuration says; what is known by name stays."""
        self.limits.reload(email)
        self.sources.reload(email.pools)
        self.reactions.reload(email.on_reply)

    def close(self) -> None:
        self.pauses.close()
        self.limits.close()

    def postponed(self, pause: Pause) -> Postponed:
        """What becomes of mail that a pause stops."""
        remaining = self.pauses.remaining(pause)
        seconds = AGAIN_AFTER if remaining is None else min(remaining, AGAIN_AFTER)
        return Postponed(f"{PAUSED}{pause}", pause.target, seconds)

    def cannot_bind(self, source: Source, reason: str) -> None:
        """It is not used for a while."""
        what = f"source {source.address}"
        if self.pauses.get(what, "pause") is None:
            now = self._now()
            self.pauses.add(Pause(what=what, reason=reason, since=now, until=now + BIND_AGAIN, by="bind"))

    def zone_pause(self, zone: str) -> Pause | None:
        """Why no mail of a zone leaves now."""
        return self.pauses.first((ALL, f"zone {zone}"))

    def source_pause(self, pool: str) -> Pause | None:
        """Of the sources of a pool, the one that is paused for the shortest time."""
        whats = [f"source {source.address}" for source in self.sources.pool(pool)]
        found = [pause for what in whats if (pause := self.pauses.get(what, "pause")) is not None]
        return min(found, key=lambda pause: pause.until or float("inf"), default=None)

    def _braked(self, name: str) -> Rate | None:
        pause = self.pauses.get(name, "slow_down")
        return pause.rate if pause is not None else None

    def _began(self, pause: Pause) -> None:
        if pause.effect == "slow_down":
            self._brake(pause.what, pause.rate)
        elif pause.effect == "pause":
            self.stands_still(pause)

    def _ended(self, pause: Pause) -> None:
        if pause.effect == "slow_down":
            self._brake(pause.what, None)
            self._recovered(f"{RATE}{pause.what}")  # the gate may be forgotten while mail waits for its turn
        self._recovered(pause.target)

    def _brake(self, name: str, rate: Rate | None) -> None:
        gate = self.limits.find(name)
        if gate is not None:
            gate.slow_down(rate)
