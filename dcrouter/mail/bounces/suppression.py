"""Addresses of the world to which nothing is sent: by the file, by an operator, and for what came back from them.

A hard failure suppresses at once, others when there are several and none of them was followed by a delivery. What is
learnt is kept over a restart, for its time; of more than MAX_ROWS addresses (mail/ledger) the oldest are forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dcrouter.config.mail import Email
from dcrouter.config.queue import Suppress
from dcrouter.errors import WireError
from dcrouter.mail.bounces.kinds import kind_of
from dcrouter.mail.delivery.exchangers import ascii_domain
from dcrouter.mail.ledger import Ledger, Row, Table
from dcrouter.wire.smtp.address import parse_path, split

FOR_EVER = 253_402_300_799.0
"""The last second of the year 9999, UTC epoch."""
BY_FILE, BY_OPERATOR, COMPLAINT = "file", "operator", "complaint"
"""Why, where it is no kind of failure: `complaint` is a feedback report."""
PAGE = 500
"""Addresses in one answer."""
BAD_REQUEST, NOT_FOUND = 400, 404


class Suppression:
    """`now`: UTC epoch seconds. `learnt`: addresses that were suppressed since the start."""

    def __init__(self, ledger: Ledger, now: Callable[[], float]) -> None:
        self.learnt = 0
        self._ledger = ledger
        self._now = now
        self._listed: frozenset[bytes] = frozenset()
        self._rules: Suppress | None = None
        self._known: Table | None = None

    def reload(self, email: Email) -> None:
        """As another configuration says, from now on; what was learnt stays."""
        self._listed = frozenset(key_of(address) for address in email.suppression)
        self._rules = email.bounces.suppress

    def open(self) -> None:
        """Takes up what earlier runs have learnt; blocks."""
        if self._ledger.exists:
            self._known = self._ledger.table("suppressed")

    @property
    def _soft(self) -> Table:
        return self._ledger.table("soft-bounces")

    def why(self, address: str) -> str | None:
        """Why nothing is sent to an address, None where it is."""
        key = key_of(address)
        if key in self._listed:
            return BY_FILE
        row = self._known.get(key) if self._known is not None else None
        return None if row is None else row.note

    def failed(self, address: str, reply: str) -> None:
        """A message to it was given up, for this reply of a server."""
        rules = self._rules
        if rules is None:
            return
        kind = kind_of(reply)
        if kind.hard:
            self._suppress(address, kind.name, self._now() + rules.hard if rules.hard else FOR_EVER)
            return
        key, until = key_of(address), self._now() + rules.soft.for_
        row = self._soft.get(key)
        count = (row.value if row is not None else 0.0) + 1
        if count < rules.soft.count:
            self._soft.put(key, Row(count, until if row is None else row.expires))
            return
        self._soft.forget(key)
        self._suppress(address, kind.name, until)

    def delivered(self, address: str) -> None:
        """It takes mail: soft failures so far do not count."""
        if self._rules is not None and self._soft.rows:
            self._soft.forget(key_of(address))

    def complained(self, address: str) -> None:
        """Who reads there does not want it."""
        self._suppress(address, COMPLAINT, FOR_EVER)

    def _suppress(self, address: str, note: str, until: float) -> None:
        known = self._known = self._ledger.table("suppressed")
        key = key_of(address)
        if known.get(key) is None:
            self.learnt += 1
        known.put(key, Row(self._now(), until, note))

    # ------------------------------------------------------------------ the operator

    def answered(self, fields: dict[str, Any]) -> dict[str, Any]:
        """`do`: `list`, with `after` of the page before: {"suppressed": [{"address", "why", "since", "until"}],
        "next"}, times as UTC epoch seconds, None where there is none; `add` (`seconds`: for so long) and `remove`, with
        `address`: {"address"}.
        """
        if fields["do"] == "list":
            return self._page(fields.get("after"))
        address = str(fields.get("address", ""))
        try:
            parse_path(f"<{address}>", utf8=True)
        except WireError:
            return {"error": f"{address!r} is not an address", "status": BAD_REQUEST}
        key = key_of(address)
        if fields["do"] == "add":
            seconds = float(fields.get("seconds") or 0.0)
            self._suppress(address, BY_OPERATOR, self._now() + seconds if seconds else FOR_EVER)
            return {"address": address}
        if key in self._listed:
            return {"error": f"{address} is in email.suppression of the file", "status": BAD_REQUEST}
        if self._known is None or self._known.get(key) is None:
            return {"error": f"{address} is not suppressed", "status": NOT_FOUND}
        self._known.forget(key)
        return {"address": address}

    def _page(self, after: str | None) -> dict[str, Any]:
        now = self._now()
        known = self._known.rows if self._known is not None else {}
        rows = {key: row for key, row in known.items() if row.expires > now}
        rows |= {key: Row(0.0, FOR_EVER, BY_FILE) for key in self._listed}
        keys = sorted(key for key in rows if after is None or key > after.encode())
        page = keys[:PAGE]
        return {
            "suppressed": [_shown(key, rows[key]) for key in page],
            "next": page[-1].decode() if len(keys) > PAGE else None,
        }


def key_of(address: str) -> bytes:
    """One for all ways to write an address: nearly no server tells upper case from lower in local parts."""
    local, domain = split(address)
    try:
        domain = ascii_domain(domain)
    except ValueError:
        domain = domain.lower()
    return f"{local.lower()}@{domain}".encode()


def refusal(address: str, why: str) -> str:
    """What a client or a sender is told."""
    return f"550 5.7.1 Nothing is sent to <{address}> any more ({why})"


def _shown(key: bytes, row: Row) -> dict[str, Any]:
    return {
        "address": key.decode(),
        "why": row.note,
        "since": row.value or None,
        "until": None if row.expires >= FOR_EVER else row.expires,
    }
