"""The tables of the queue in SQLite: message -> body -> recipients, versioned from the first commit.

A body is one variant of a message (so far there is one: as it came). `octets` NULL means a spool file, named by the
message. A recipient has one row, so that settling it touches nothing else; `state`: QUEUED, FAILED or HELD.
"""

from __future__ import annotations

import sqlite3

from dcrouter.errors import StoreError

VERSION = 1
"""PRAGMA user_version. A newer one is refused: this program cannot know what it would break."""

QUEUED, FAILED, HELD = 0, 1, 2
STATES = {QUEUED: "queued", FAILED: "failed", HELD: "held"}

_TABLES = """
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    sender TEXT NOT NULL,
    received REAL NOT NULL,
    size INTEGER NOT NULL,
    eightbit INTEGER NOT NULL
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
    PRIMARY KEY (message, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient (state, due, message, number);
"""


def prepare(connection: sqlite3.Connection) -> None:
    """Makes the tables in a new file, checks the version of an old one. Raises StoreError."""
    if sqlite3.sqlite_version_info < (3, 37):
        raise StoreError(f"SQLite 3.37 or newer is needed, this is {sqlite3.sqlite_version}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StoreError(f"the mail queue was written by a newer dcrouter (schema {version}, this one knows {VERSION})")
    if version == 0:
        connection.executescript(f"BEGIN;{_TABLES}PRAGMA user_version = {VERSION};COMMIT;")
