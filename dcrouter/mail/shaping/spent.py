"""What has left by rates, over a restart: of each rate, how many messages in each part of its time, in the ledger.

A part's messages count as if they had left with its last one: a restart makes a rate a little slower, never faster. A
process that is killed forgets what has left in its last second or two (ledger.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b

from dcrouter.config.rates import Rate
from dcrouter.mail.ledger import Ledger, Row, Table

TABLE = "spent"
"""Of the ledger: (gate, seconds of the rate, part) -> messages; it expires with its last message."""

PARTS = 48
"""Of the time of a rate."""

SHORTEST = 5.0
"""Seconds of a rate that is remembered: of a shorter one nothing would be left after a restart."""


class Record:
    """Of one rate. `now`: UTC epoch seconds."""

    def __init__(self, table: Table, name: str, seconds: float, now: Callable[[], float]) -> None:
        self._table = table
        self._name = name
        self._seconds = seconds
        self._now = now
        self._part = -1
        self._key = b""
        self._count = 0.0

    def past(self) -> Iterator[tuple[float, int]]:
        """(how many seconds ago, messages), the latest first. A clock that was set back makes them later."""
        now = self._now()
        part = self._part_of(now)
        for back in range(PARTS + 1):
            row = self._table.get(self._key_of(part - back))
            if row is not None:
                yield max(0.0, now - (row.expires - self._seconds)), int(row.value)

    def add(self) -> None:
        """One leaves."""
        now = self._now()
        part = self._part_of(now)
        if part != self._part:
            self._part, self._key = part, self._key_of(part)
            row = self._table.get(self._key)
            self._count = row.value if row is not None else 0.0
        self._count += 1
        self._table.put(self._key, Row(self._count, now + self._seconds))

    def _part_of(self, now: float) -> int:
        return int(now * PARTS // self._seconds)

    def _key_of(self, part: int) -> bytes:
        return blake2b(f"{self._name}\0{self._seconds}\0{part}".encode(), digest_size=16).digest()


class Spent:
    """Of all rates."""

    def __init__(self, ledger: Ledger, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._now = now

    def record(self, name: str, rate: Rate) -> Record | None:
        """Of what goes by this rate and this name; None where it is too short."""
        _, seconds = rate.rate
        if seconds < SHORTEST:
            return None
        return Record(self._ledger.table(TABLE), name, seconds, self._now)
