"""How many sessions with each domain's exchangers went well and how many failed: by day, policy and kind of failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

from attrs import asdict

from dcrouter.mail.ledger import Ledger, Row, Table
from dcrouter.wire.tlsrpt import FailureKind, Policy, Section

DAY = 86_400
KEPT = 3
"""Days for which what could not be told is tried again."""


class Counted(NamedTuple):
    """`day`: since 1970, UTC. `failure` None: they went well."""

    day: int
    domain: str
    policy: Policy
    failure: FailureKind | None


class Day(NamedTuple):
    """One domain's: `sections` of its report, `keys` of its rows. `day`: since 1970, UTC."""

    day: int
    domain: str
    sections: tuple[Section, ...]
    keys: tuple[bytes, ...]


class Counts:
    """`now`: UTC epoch seconds. Rows of `ledger`, which outlives the process; it is opened when first needed."""

    def __init__(self, ledger: Ledger, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._now = now

    @property
    def _table(self) -> Table:
        return self._ledger.table("tls-reports")

    def add(self, domain: str, policy: Policy, failure: FailureKind | None) -> None:
        """One session more."""
        day = int(self._now() // DAY)
        key = _key(Counted(day, domain, policy, failure))
        known = self._table.get(key)
        self._table.put(key, Row((known.value if known is not None else 0) + 1, (day + 1 + KEPT) * DAY))

    def over(self) -> list[Day]:
        """What is to be told now, the oldest first: of the days that are over."""
        return self.before(int(self._now() // DAY))

    def before(self, day: int) -> list[Day]:
        """What there is of the days before that one, the oldest first; O(rows)."""
        found: dict[tuple[int, str], list[tuple[bytes, Counted]]] = {}
        for key in self._table.rows:
            one = _counted(key)
            if one.day < day:
                found.setdefault((one.day, one.domain), []).append((key, one))
        return [
            Day(day, domain, self._sections(counted), tuple(key for key, _ in counted))
            for (day, domain), counted in sorted(found.items(), key=itemgetter(0))
        ]

    def forget(self, day: Day) -> None:
        """It has been told, or nobody wants to know."""
        for key in day.keys:
            self._table.forget(key)

    def _sections(self, counted: list[tuple[bytes, Counted]]) -> tuple[Section, ...]:
        good: dict[Policy, int] = {}
        failed: dict[Policy, list[tuple[FailureKind, int]]] = {}
        for key, one in counted:
            count = int(self._table.rows[key].value)
            good.setdefault(one.policy, 0)
            if one.failure is None:
                good[one.policy] += count
            else:
                failed.setdefault(one.policy, []).append((one.failure, count))
        return tuple(
            Section(policy=policy, successful=count, failures=tuple(failed.get(policy, ())))
            for policy, count in good.items()
        )


def _key(counted: Counted) -> bytes:
    failure = None if counted.failure is None else asdict(counted.failure)
    return json.dumps([counted.day, counted.domain, asdict(counted.policy), failure]).encode("ascii")


def _counted(key: bytes) -> Counted:
    day, domain, policy, failure = json.loads(key)
    told: dict[str, Any] = {**policy, "lines": tuple(policy["lines"]), "hosts": tuple(policy["hosts"])}
    return Counted(day, domain, Policy(**told), None if failure is None else FailureKind(**failure))
