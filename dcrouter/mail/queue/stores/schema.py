"""The tables of the queue in SQLite: message -> body -> recipients, versioned from the first commit.

A body is one variant of a message (so far there is one: as it came). `octets` NULL means a spool file, named by the
message. A recipient has one row, so that settling it touches nothing else. Whatever is not in a put has a default, so
that the rows of a put stay short.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from attrs import asdict

from dcrouter.errors import StoreError
from dcrouter.mail.envelope import PLAIN, Recipient, Terms
from dcrouter.mail.message import Message
from dcrouter.mail.queue.store import FAILED, HELD, QUEUED

VERSION = 3
"""PRAGMA user_version. A newer one is refused: this program cannot know what it would break. Version 2: `origin`,
`told`, and `due` of what is not queued. Version 3: `terms`, `priority`, `zone`, `source` and `dsn`."""

FILE = "queue.sqlite"
SPOOL = "spool"
"""Under the store's directory: the database, and the spool files."""

STRANGER, RELAYING, TO_SENDER, TO_POSTMASTER, VOUCHED = range(5)
"""`origin`: who brought a message, a client that might not relay or one that might; or our notification, to whom;
or a client that might not, with a sender for whom SPF or DKIM stands."""

TABLES = f"""
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    sender TEXT NOT NULL,
    received REAL NOT NULL,
    size INTEGER NOT NULL,
    eightbit INTEGER NOT NULL,
    origin INTEGER NOT NULL DEFAULT {STRANGER},
    terms TEXT
) STRICT;
CREATE TABLE body (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES message (id),
    octets BLOB
) STRICT;
CREATE TABLE recipient (
    message INTEGER NOT NULL REFERENCES message (id),
    number INTEGER NOT NULL,
    body INTEGER NOT NULL REFERENCES body (id),
    address TEXT NOT NULL,
    rule TEXT NOT NULL,
    state INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due REAL NOT NULL,
    reply TEXT NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL DEFAULT 0,
    zone TEXT NOT NULL DEFAULT '',
    source TEXT NOT NULL DEFAULT '',
    dsn TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (message, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient (state, due, message, number);
CREATE INDEX recipient_priority ON recipient (state, priority, due, message, number) WHERE priority <> 0;
"""
"""`eightbit`: 2 is binary. `terms`: JSON of what differs from PLAIN, or NULL. `dsn`: NOTIFY, a space, ORCPT. Nearly all
mail has priority 0, and costs the second index nothing."""

ARRIVAL = f"""
CREATE TEMP VIEW arrival AS
    SELECT id, session, sender, received, size, eightbit, origin, terms, NULL AS octets, 0.0 AS due, '' AS recipients
    FROM message;
CREATE TEMP TRIGGER arrive INSTEAD OF INSERT ON arrival BEGIN
    INSERT INTO message VALUES
        (NEW.id, NEW.session, NEW.sender, NEW.received, NEW.size, NEW.eightbit, NEW.origin, NEW.terms);
    INSERT INTO body VALUES (NEW.id, NEW.id, NEW.octets);
    INSERT INTO recipient (message, number, body, address, rule, state, attempts, due, reply, priority, zone, dsn)
        SELECT NEW.id, json_extract(value, '$[0]'), NEW.id, json_extract(value, '$[1]'), json_extract(value, '$[2]'),
            {QUEUED}, json_extract(value, '$[3]'), NEW.due, '',
            coalesce(json_extract(NEW.terms, '$.priority'), 0),
            coalesce(json_extract(value, '$[4]'), ''), coalesce(json_extract(value, '$[5]'), '')
        FROM json_each(NEW.recipients);
END;
"""
"""A message in all its tables, as one row: the connection that writes sees this, the file does not have it.

`octets` NULL: it is spooled. `recipients`: JSON, [[number, address, rule, attempts], ...], with zone and
dsn behind these where there are any.
"""

ARRIVAL_COLUMNS = 11

_FROM_1 = f"""
ALTER TABLE message ADD COLUMN origin INTEGER NOT NULL DEFAULT {STRANGER};
ALTER TABLE recipient ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
UPDATE recipient SET due = CAST(strftime('%s', 'now') AS REAL) WHERE state IN ({FAILED}, {HELD});
"""
"""Until then nobody could log in: all were strangers. Failed mail has its time in the queue from now on."""

_FROM_2 = """
ALTER TABLE message ADD COLUMN terms TEXT;
ALTER TABLE recipient ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE recipient ADD COLUMN zone TEXT NOT NULL DEFAULT '';
ALTER TABLE recipient ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE recipient ADD COLUMN dsn TEXT NOT NULL DEFAULT '';
CREATE INDEX recipient_priority ON recipient (state, priority, due, message, number) WHERE priority <> 0;
"""


def prepare(connection: sqlite3.Connection) -> None:
    """Makes the tables in a new file, brings those of an old one to this version. Raises StoreError."""
    if sqlite3.sqlite_version_info < (3, 37):
        raise StoreError(f"SQLite 3.37 or newer is needed, this is {sqlite3.sqlite_version}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StoreError(f"the mail queue was written by a newer dcrouter (schema {version}, this one knows {VERSION})")
    steps = {0: TABLES, 1: _FROM_1 + _FROM_2, 2: _FROM_2}
    if version in steps:
        try:
            connection.executescript(f"BEGIN IMMEDIATE;{steps[version]}PRAGMA user_version = {VERSION};COMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def origin_of(message: Message) -> int:
    """What the column says of a message."""
    if message.notice is not None:
        return TO_SENDER if message.notice == "sender" else TO_POSTMASTER
    if message.envelope.may_relay:
        return RELAYING
    return VOUCHED if message.envelope.vouched else STRANGER


def terms_text(terms: Terms) -> str | None:
    """What the column says of them."""
    if terms is PLAIN:
        return None
    said = {name: value for name, value in asdict(terms).items() if value}
    return json.dumps(said) if said else None


def terms_of(text: str | None) -> Terms:
    return Terms(**json.loads(text)) if text else PLAIN


def recipient_row(one: Recipient) -> tuple[Any, ...]:
    """A recipient in `arrival`."""
    if one.zone or one.notify or one.orcpt:
        return (one.number, one.address, one.rule, one.attempts, one.zone, dsn_text(one))
    return (one.number, one.address, one.rule, one.attempts)


def dsn_text(one: Recipient) -> str:
    return f"{one.notify} {one.orcpt}" if one.notify or one.orcpt else ""


def dsn_of(text: str) -> tuple[str, str]:
    """(notify, orcpt)."""
    notify, _, orcpt = text.partition(" ")
    return notify, orcpt
