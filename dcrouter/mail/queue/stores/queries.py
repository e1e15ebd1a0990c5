"""What is asked of the queue's tables, as SQL: each question is one long statement, because Python gives the GIL up for
each step of one and must win it back.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from dcrouter.mail.envelope import Envelope, Recipient
from dcrouter.mail.message import Message, NoticeTo
from dcrouter.mail.queue.store import (
    AGES,
    FAILED,
    HELD,
    HELD_BY_OPERATOR,
    HELD_NOTICE,
    QUEUED,
    START,
    STATES,
    Ages,
    Cursor,
    Due,
    Entry,
    Key,
    Page,
    Selection,
    between,
    tally,
)
from dcrouter.mail.queue.stores.patterns import glob_of
from dcrouter.mail.queue.stores.schema import STRANGER, TO_POSTMASTER, TO_SENDER, VOUCHED, dsn_of, terms_of

_DUE = """
SELECT json_group_array(json_array(due, id, number, address, rule, attempts, session, sender, received, size, eightbit,
    spooled, origin, told, zone, source, dsn, terms))
FROM (
    SELECT r.due, m.id, r.number, r.address, r.rule, r.attempts, m.session, m.sender, m.received, m.size, m.eightbit,
        (SELECT octets IS NULL FROM body WHERE body.id = r.body) AS spooled, m.origin, r.told,
        r.zone, r.source, r.dsn, m.terms
    FROM recipient AS r INDEXED BY %s JOIN message AS m ON m.id = r.message
    WHERE r.state = ? AND %s AND (r.due, r.message, r.number) > (?, ?, ?) AND r.due <= ?
    ORDER BY r.due, r.message, r.number LIMIT ?
)"""

_DUE_PLAIN = _DUE % ("recipient_due", "r.priority = 0")
_DUE_RANKED = _DUE % ("recipient_priority", "r.priority <> 0 AND r.priority = ?")

_NEXT_RANK = (
    "SELECT priority FROM recipient WHERE priority <> 0 AND state = ? AND priority %s ORDER BY priority DESC LIMIT 1"
)
_RANKS = f"""
WITH RECURSIVE found (priority) AS (
    SELECT ({_NEXT_RANK % "<= 9"}) UNION ALL
    SELECT ({_NEXT_RANK % "< found.priority"}) FROM found WHERE found.priority IS NOT NULL
)
SELECT json_group_array(priority) FROM found WHERE priority IS NOT NULL"""
"""The priorities that queued recipients have, 0 left out: a step for each, however many recipients there are."""

_ENTRY = """
m.id, r.number, m.session, m.sender, m.received, m.size, r.address, r.rule, r.state, r.attempts, r.due, r.reply,
(SELECT octets IS NULL FROM body WHERE body.id = r.body) AS spooled, r.priority, r.zone, r.source, r.dsn"""

_PICK = f"""
SELECT json_group_array(json_array(
    id, number, session, sender, received, size, address, rule, state, attempts, due, reply, spooled,
    priority, zone, source, dsn))
FROM (
    SELECT {_ENTRY} FROM recipient AS r CROSS JOIN message AS m ON m.id = r.message
    WHERE %s ORDER BY r.message, r.number LIMIT ?
)"""
"""CROSS JOIN: in this order (SQLite does not turn it round), so that a message is looked up only where it may count."""

_FAILED = f"""
SELECT {_ENTRY} FROM recipient AS r JOIN message AS m ON m.id = r.message
WHERE r.state = ? AND r.due < ? ORDER BY r.due LIMIT ?"""

_REPLIES = """
SELECT json_group_array(reply) FROM (
    SELECT DISTINCT reply FROM recipient WHERE state = ? AND due > ?
    AND EXISTS (SELECT 1 FROM json_each(?) WHERE substr(reply, 1, length(value)) = value) LIMIT ?
)"""

_DOMAIN = "lower(substr(address, length(rtrim(address, replace(address, '@', ''))) + 1))"
"""What stands behind the last @."""

_COUNT = "SELECT count(*) FROM recipient WHERE state = ?"
_EVER = 1e12

_HELD = (HELD, HELD_BY_OPERATOR, HELD_NOTICE)


def read_due(reader: sqlite3.Connection, behind: Cursor, now: float, limit: int) -> list[Due]:
    found: list[Due] = []
    (text,) = reader.execute(_RANKS, (QUEUED, QUEUED)).fetchone()
    for rank in sorted(-priority for priority in (0, *json.loads(text))):
        if rank < behind.rank or len(found) == limit:
            continue
        after = behind[1:] if rank == behind.rank else START[1:]
        which = (QUEUED, -rank) if rank else (QUEUED,)
        (text,) = reader.execute(
            _DUE_RANKED if rank else _DUE_PLAIN, (*which, *after, now, limit - len(found))
        ).fetchone()
        found += [_as_due(rank, *row) for row in json.loads(text)]
    return found


def read_next_due(reader: sqlite3.Connection, after: float) -> float | None:
    row = reader.execute(
        "SELECT due FROM recipient WHERE state = ? AND due > ? ORDER BY due LIMIT 1", (QUEUED, after)
    ).fetchone()
    return row[0] if row else None


def read_failed(reader: sqlite3.Connection, before: float, limit: int) -> list[Entry]:
    return [_as_entry(row) for row in reader.execute(_FAILED, (FAILED, before, limit))]


def read_first_failed(reader: sqlite3.Connection) -> float | None:
    row = reader.execute("SELECT due FROM recipient WHERE state = ? ORDER BY due LIMIT 1", (FAILED,)).fetchone()
    return row[0] if row else None


def read_replies(reader: sqlite3.Connection, beginnings: Sequence[str], now: float, limit: int) -> list[str]:
    (text,) = reader.execute(_REPLIES, (QUEUED, now, json.dumps(beginnings), limit)).fetchone()
    found: list[str] = json.loads(text)
    return found


def read_page(reader: sqlite3.Connection, selection: Selection, behind: Key, limit: int, now: float) -> Page:
    conditions, values = _where(selection, now)
    if behind[0]:
        # The first term lets SQLite begin at the message; the second one alone would make it look at all before.
        conditions += ["r.message >= ?", "(r.message, r.number) > (?, ?)"]
        values += [behind[0], *behind]
    (text,) = reader.execute(_PICK % (" AND ".join(conditions) or "1"), (*values, limit)).fetchone()
    entries = [_as_entry(row) for row in json.loads(text)]
    return Page(entries, entries[-1].key if len(entries) == limit else None)


def read_counts(reader: sqlite3.Connection, now: float) -> dict[str, Any]:
    # Ranges of the index, one after the other: grouping would sort a million rows.
    states = [(QUEUED, True, "due > ?"), *((state, False, "due <= ?") for state in STATES)]
    counts = [
        (state, later, reader.execute(f"{_COUNT} AND {when}", (state, now if state == QUEUED else _EVER)).fetchone()[0])
        for state, later, when in states
    ]
    row = reader.execute("SELECT received FROM message ORDER BY id LIMIT 1").fetchone()
    return {**tally(counts), "oldest": row[0] if row else None}


def read_stats(reader: sqlite3.Connection, now: float, top: int) -> dict[str, Any]:
    messages, octets, largest = reader.execute(
        "SELECT count(*), coalesce(sum(size), 0), coalesce(max(size), 0) FROM message"
    ).fetchone()
    rules: dict[str, list[tuple[int, bool, int]]] = {}
    for rule, *count in reader.execute(
        "SELECT rule, state, due > ?, count(*) FROM recipient GROUP BY 1, 2, 3 ORDER BY rule", (now,)
    ):
        rules.setdefault(rule, []).append((count[0], bool(count[1]), count[2]))
    domains = reader.execute(
        f"SELECT {_DOMAIN} AS domain, count(*) AS many FROM recipient GROUP BY 1 ORDER BY many DESC, domain LIMIT ?",
        (top,),
    )
    return {
        **read_counts(reader, now),
        "messages": messages,
        "octets": octets,
        "largest": largest,
        "rules": {rule: tally(counts) for rule, counts in rules.items()},
        "domains": dict(domains.fetchall()),
    }


def read_ages(reader: sqlite3.Connection, now: float, top: int) -> Ages:
    names = [f"m{minutes}" for minutes in AGES]
    younger = [f"sum(m.received >= {now - 60 * minutes!r}) AS m{minutes}" for minutes in AGES]
    found = f"SELECT {_DOMAIN} AS domain, count(*) AS many, {', '.join(younger)}"
    total = ", ".join(f"coalesce(sum({name}), 0)" for name in ("many", *names))
    (_, many, *counts), *rows = reader.execute(
        f"WITH found AS MATERIALIZED ({found} FROM recipient AS r JOIN message AS m ON m.id = r.message GROUP BY 1) "
        f"SELECT NULL, {total} FROM found "
        "UNION ALL SELECT * FROM (SELECT * FROM found ORDER BY many DESC, domain LIMIT ?)",
        (top,),
    )
    return Ages([(domain, between([*counts, many])) for domain, many, *counts in rows], between([*counts, many]))


def _where(selection: Selection, now: float) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []

    def add(condition: str, *given: Any) -> None:
        conditions.append(condition)
        values.extend(given)

    if selection.messages is not None:
        add("r.message IN (SELECT value FROM json_each(?))", json.dumps(selection.messages))
    if selection.rule is not None:
        add("r.rule = ?", selection.rule)
    if selection.state == "failed":
        add("r.state = ?", FAILED)
    elif selection.state == "held":
        add("r.state IN (?, ?, ?)", *_HELD)
    elif selection.state is not None:
        add(f"+r.state = ? AND r.due {'>' if selection.state == 'deferred' else '<='} ?", QUEUED, now)
    if selection.sender is not None:
        if selection.sender:
            add("lower(m.sender) GLOB ?", glob_of(selection.sender))
        else:
            add("m.sender = ''")
    if selection.recipient is not None:
        add("lower(r.address) GLOB ?", glob_of(selection.recipient))
    if selection.zone is not None:
        add(
            "(r.rule IN (SELECT value FROM json_each(?)) OR "
            "(r.zone = ? AND r.rule NOT IN (SELECT value FROM json_each(?))))",
            json.dumps(selection.zone.rules),
            selection.zone.name,
            json.dumps(selection.zone.others),
        )
    if selection.last is not None:
        add("r.message <= ?", selection.last)
    if selection.before is not None:
        add("m.received < ?", selection.before)
    return conditions, values


def _as_entry(row: Any) -> Entry:
    *fields, spooled, priority, zone, source, dsn = row
    return Entry(*(*fields, bool(spooled), priority, zone, source, *dsn_of(dsn)))


def _as_due(
    rank: int,
    due: float,
    message: int,
    number: int,
    address: str,
    rule: str,
    attempts: int,
    session: str,
    sender: str,
    received: float,
    size: int,
    eightbit: int,
    spooled: int,
    origin: int,
    told: int,
    zone: str,
    source: str,
    dsn: str,
    terms: str | None,
) -> Due:
    notify, orcpt = dsn_of(dsn)
    recipient = Recipient(
        number=number,
        address=address,
        rule=rule,
        attempts=attempts,
        told=bool(told),
        zone=zone,
        source=source,
        notify=notify,
        orcpt=orcpt,
    )
    return Due(
        Cursor(rank, due, message, number),
        Message(
            id=message,
            envelope=Envelope(
                session=session,
                sender=sender,
                recipients=(recipient,),
                may_relay=origin not in (STRANGER, VOUCHED),
                vouched=origin == VOUCHED,
                terms=terms_of(terms),
            ),
            received=received,
            size=size,
            eightbit=bool(eightbit),
            binary=eightbit == 2,
            spooled=bool(spooled),
            notice=_NOTICE.get(origin),
        ),
    )


_NOTICE: dict[int, NoticeTo] = {TO_SENDER: "sender", TO_POSTMASTER: "postmaster"}
