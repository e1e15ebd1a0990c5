"""From which address of a pool a message leaves: by weight, the same one each time, and warm ones for what is too much.

1. The one that it left from before, where the pool still has it and nothing speaks against it.
2. Else by rendezvous: each source draws a number for the message, by its weight, and the highest wins. So a pool that
   changes moves only the mail of what has come or gone (Thaler and Ravishankar 1998; weights by Schindelhauer 2005).
3. One that is still warming up and has had its share of the day for the provider passes the message on to a warm one.
   Where there is none, it takes it all the same: mail is never held up for this.

Nothing leaves from a source that is paused, or whose family the hosts have no address of.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from math import log

from dcrouter.config.zones import Source, Warmup
from dcrouter.mail.ledger import Ledger, Row, Table
from dcrouter.mail.shaping.pauses import Pauses

DAY = 86400.0

TABLE = "warmup"
"""Of the ledger: (source, day, provider) -> messages."""


class Sources:
    """`now`: UTC epoch seconds."""

    def __init__(self, ledger: Ledger, pauses: Pauses, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._pauses = pauses
        self._now = now
        self._pools: Mapping[str, tuple[Source, ...]] = {}
        self._counts: Table | None = None

    def reload(self, pools: Mapping[str, tuple[Source, ...]]) -> None:
        """As another configuration says; what was counted stays."""
        self._pools = pools
        if self._counts is None and any(source.warmup is not None for pool in pools.values() for source in pool):
            self._counts = self._ledger.table(TABLE)

    def addresses(self) -> list[str]:
        """Of all pools."""
        return [str(source.address) for pool in self._pools.values() for source in pool]

    def pool(self, name: str) -> tuple[Source, ...]:
        return self._pools.get(name, ())

    def usable(self, pool: str, gates: Collection[str], versions: Collection[int]) -> list[Source]:
        """Sources of a pool that may be used now, for hosts of these families behind these gates."""
        return [source for source in self.pool(pool) if not self.against(source, gates, versions)]

    def against(self, source: Source, gates: Collection[str], versions: Collection[int]) -> str:
        """Why a source is not used now, "" where nothing speaks against it."""
        if source.address.version not in versions:
            return f"{source.address}: the hosts have no IPv{source.address.version} address"
        what = f"source {source.address}"
        pause = self._pauses.get(what, "pause") or self._pauses.first(
            (f"{what} for {gate}" for gate in gates), "rotate"
        )
        return str(pause) if pause is not None else ""

    def choose(
        self, pool: str, message: int, kept: str, gates: Collection[str], versions: Collection[int], provider: str
    ) -> Source | None:
        """For a message; `kept`: the source that it left from before, or "". `provider`: who is to get it, for warmups.
        None: no source can be used.
        """
        usable = self.usable(pool, gates, versions)
        for source in usable:
            if str(source.address) == kept:
                return source
        started = [source for source in usable if self.has_begun(source)]
        ranked = rendezvous(f"{message:x}", started or usable)
        if not ranked:
            return None
        first = ranked[0]
        if self.left(first, provider) > 0:
            return first
        open_ = [source for source in ranked if self.left(source, provider) > 0]
        warm = [source for source in open_ if self._cap(source.warmup) is None] or open_
        return warm[0] if warm else first

    def count(self, source: Source, provider: str, messages: int = 1) -> None:
        """So many leave from it, today; below 0: they have not."""
        if self._counts is None or source.warmup is None or self._cap(source.warmup) is None:
            return
        key, today = self._key(source, provider), self._now() // DAY
        row = self._counts.get(key)
        sent = max(0.0, (row.value if row is not None else 0.0) + messages)
        self._counts.put(key, Row(sent, (today + 2) * DAY))

    def left(self, source: Source, provider: str) -> float:
        """How many more may leave from it today, for that provider."""
        cap = self._cap(source.warmup)
        if cap is None:
            return float("inf")
        row = self._counts.get(self._key(source, provider)) if self._counts is not None else None
        return cap - (row.value if row is not None else 0.0)

    def has_begun(self, source: Source) -> bool:
        """Whether it is its first day, or later: before, it is used only where no other can be."""
        return self._cap(source.warmup) != 0

    def _cap(self, warmup: Warmup | None) -> int | None:
        """Messages of today, None: it is warm."""
        if warmup is None:
            return None
        day = int(self._now() // DAY) - _day(warmup.start)
        if day < 0:
            return 0
        return warmup.daily[day] if day < len(warmup.daily) else None

    def _key(self, source: Source, provider: str) -> bytes:
        text = f"{source.address}\0{int(self._now() // DAY)}\0{provider}"
        return blake2b(text.encode(), digest_size=16).digest()


def rendezvous(ticket: str, sources: Sequence[Source]) -> list[Source]:
    """The sources in the order in which this ticket wants them."""
    return sorted(sources, key=lambda source: _score(ticket, source), reverse=True)


def _score(ticket: str, source: Source) -> float:
    digest = blake2b(f"{source.address}\0{ticket}".encode(), digest_size=8).digest()
    share = ((int.from_bytes(digest, "big") >> 11) + 0.5) / 2**53
    return -source.weight / log(share)


def _day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() // DAY)
