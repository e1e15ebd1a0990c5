"""The log: every event of every process as one line, in JSON for programs or in text for people.

1. JSON: `{"time": "2026-11-21T01:02:03.456Z", "level", "role", "namespace", "text", ...fields, "traceback"}`. `text`
   is the sentence; `session` and `message` are the ids of the connection and of the mail message that it is about.
2. Text: time, level, role and sentence in columns, the ids where the sentence does not have them, tracebacks indented;
   coloured only on a terminal.
3. Whatever a peer sent stays inside its line: control characters, line separators and characters that turn the
   direction of writing are escaped, so nobody can forge a line (CWE-117).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from twisted.logger import ILogObserver
from zope.interface import implementer

from dcrouter.admin.logfile import LogFile
from dcrouter.control.records import RANKS, Record, is_noise, level_of, to_record

Format = Literal["json", "text"]
FIXED = frozenset({"time", "level", "role", "namespace", "text", "traceback"})
"""The line's own words; a field of such a name gets an underscore behind it."""
IDS = ("session", "message")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_COLOURS = {"debug": "\x1b[2m", "info": "", "warn": "\x1b[33m", "error": "\x1b[31m"}
_RESET = "\x1b[0m"
_encode = json.JSONEncoder(ensure_ascii=True, default=str).encode


def escape(text: str) -> str:
    """`text` with everything that could leave its line, or its place in it, as `\\x0a` or `\\u2028`."""
    return _UNSAFE.sub(_escaped, text)


def as_json(record: Record, role: str) -> str:
    """One line of JSON without its end; ASCII only, so every reader agrees on where it ends."""
    line: dict[str, Any] = {
        "time": timestamp(record["time"]),
        "level": record["level"],
        "role": role,
        "namespace": record["namespace"],
        "text": record["text"],
    }
    for name, value in record["fields"].items():
        line[name + "_" if name in FIXED else name] = value
    if record["traceback"]:
        line["traceback"] = record["traceback"]
    return _encode(line).replace("\x7f", "\\u007f")


def as_text(record: Record, role: str, *, coloured: bool = False) -> str:
    """One line for people without its end; more lines, indented, for a traceback."""
    text = escape(record["text"])
    ids = "".join(
        f"  {name}={escape(str(record['fields'][name]))}"
        for name in IDS
        if name in record["fields"] and str(record["fields"][name]) not in record["text"]
    )
    level = record["level"]
    colour = _COLOURS[level] if coloured else ""
    line = f"{timestamp(record['time'])} {colour}{level:<5}{_RESET if colour else ''} {role:<6} {text}{ids}"
    if record["traceback"]:
        line += "".join(f"\n    | {escape(part)}" for part in record["traceback"].splitlines())
    return line


def timestamp(seconds: float) -> str:
    """UTC with milliseconds, ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@implementer(ILogObserver)
class LogWriter:
    """The observer that writes them to `file`, which it owns. `level` can be changed while it runs."""

    def __init__(self, file: LogFile, format: Format = "json", level: str = "info") -> None:
        self.file = file
        self.level = level
        coloured = format == "text" and file.path is None and os.isatty(1)
        self._line: Callable[[Record, str], str] = (
            as_json if format == "json" else lambda record, role: as_text(record, role, coloured=coloured)
        )

    def __call__(self, event: dict[str, Any]) -> None:
        if RANKS[level_of(event)] >= RANKS[self.level] and not is_noise(event):
            record = to_record(event)
            if event.get("log_traceback"):
                record["traceback"] = event["log_traceback"]
            line = self._line(record, str(event.get("log_role", "parent")))
            self.file.write(line.encode("utf-8", "backslashreplace") + b"\n")

    def write(self, role: str, lines: Iterable[Record]) -> None:
        """A child's records, in one write. What it sent is what is to be logged: it knows the level."""
        text = "".join(f"{self._line(record, role)}\n" for record in lines)
        self.file.write(text.encode("utf-8", "backslashreplace"))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
