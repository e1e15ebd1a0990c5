"""Changes of many recipients in the queue's database at once, whatever an attempt may have said of them."""

from __future__ import annotations

import sqlite3

from attrs import frozen

from dcrouter.mail.queue.store import HELD, QUEUED

FARTHEST = 86_400
"""Seconds: what would be due later than that after a start is due within them."""


def fold(connection: sqlite3.Connection, now: float) -> None:
    """At a start: the clock may have been ahead in an earlier run, and what came of that would not be due for years."""
    connection.execute(_FOLD, (now, now, FARTHEST, QUEUED, now + FARTHEST))
    late = now + FARTHEST
    connection.execute("UPDATE message SET received = ? WHERE id > ? AND received > ?", (now, int(late * 1e6), late))


@frozen
class Order:
    """`keys`: a JSON list of [message, number]; those in one of `states` (JSON list) and due after `later_than` are in
    `state`, due at `due`.
    """

    keys: str
    states: str
    later_than: float
    state: int
    due: float

    def write(self, connection: sqlite3.Connection) -> None:
        connection.execute(_ORDER, (self.state, self.due, self.keys, self.later_than, self.states))


@frozen
class Release:
    """What was held for the lack of one of `rules` (JSON list) is due at `due`."""

    rules: str
    due: float

    def write(self, connection: sqlite3.Connection) -> None:
        connection.execute(_RELEASE, (QUEUED, self.due, HELD, self.rules))


@frozen
class Reroute:
    """`keys`: as of Order; they belong to `rule`."""

    keys: str
    rule: str

    def write(self, connection: sqlite3.Connection) -> None:
        connection.execute(_REROUTE, (self.rule, self.keys))


@frozen
class Advance:
    """Those that wait with a reply which begins so are due from `due` on, `pace` of them in each second."""

    beginning: str
    due: float
    pace: int

    def write(self, connection: sqlite3.Connection) -> None:
        which = (QUEUED, self.due, len(self.beginning), self.beginning)
        connection.execute(_ADVANCE, (self.due, self.pace, *which))


@frozen
class Shift:
    """All is due, came and failed so many seconds later; but what waits for an instant that its sender has named."""

    seconds: float

    def write(self, connection: sqlite3.Connection) -> None:
        connection.execute(_SHIFT, (self.seconds, QUEUED))
        connection.execute("UPDATE message SET received = round(received + ?, 3)", (self.seconds,))


_NAMED = "coalesce((SELECT json_extract(terms, '$.release') FROM message WHERE id = recipient.message), 0)"
"""The instant for which the sender of a recipient's message has asked."""
_SHIFT = f"UPDATE recipient SET due = round(due + ?, 3) WHERE NOT (state = ? AND due <= {_NAMED})"
_ADVANCE = """
UPDATE recipient SET due = meant.due FROM (
    SELECT message, number, ? + (row_number() OVER (ORDER BY due, message, number) - 1) / ? AS due
    FROM recipient WHERE state = ? AND due > ? AND substr(reply, 1, ?) = ?
) AS meant WHERE recipient.message = meant.message AND recipient.number = meant.number AND +recipient.due > meant.due"""
_FOLD = f"""
UPDATE recipient SET due = ? + CAST(due - ? AS INTEGER) % ? WHERE state = ? AND due > ? AND due > {_NAMED}"""
_REROUTE = """
UPDATE recipient SET rule = ? FROM (
    SELECT json_extract(value, '$[0]') AS message, json_extract(value, '$[1]') AS number FROM json_each(?)
) AS meant WHERE recipient.message = meant.message AND recipient.number = meant.number"""
_RELEASE = "UPDATE recipient SET state = ?, due = ? WHERE state = ? AND rule IN (SELECT value FROM json_each(?))"
_ORDER = """
UPDATE recipient SET state = ?, due = ? FROM (
    SELECT json_extract(value, '$[0]') AS message, json_extract(value, '$[1]') AS number FROM json_each(?)
) AS meant WHERE recipient.message = meant.message AND recipient.number = meant.number
    AND +recipient.due > ? AND +recipient.state IN (SELECT value FROM json_each(?))"""
