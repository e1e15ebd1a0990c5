"""Log events as plain values, so that the children's lines and the parent's end in one log, in one format.

A record is `{time, level, namespace, text, fields, traceback}`: `time` in UTC epoch seconds, `level` one of LEVELS,
`fields` whatever the caller gave, JSON-ready. A child sends its records in batches to the parent (`ChannelObserver`),
which puts them into its own log with the child's role (`publish`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from string import Formatter
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

LEVELS = ("debug", "info", "warn", "error")
"""In order. twisted.logger's `critical` is an error: somebody must act."""
RANKS = {level: rank for rank, level in enumerate(LEVELS)}
"""Level -> how bad."""
LEGACY = frozenset({"message", "time", "system", "isError", "failure", "why", "format", "logLevel", "traceback"})
"""What twisted.python.log.msg adds to its events; fields of that name belong to twisted, not to us."""
NOISE = (
    "(UNIX Port ",
    "(TCP Port ",
    "QuietSite starting on ",
    "Starting factory",
    "Stopping factory",
    "Main loop terminated",
)
MAX_TEXT = 8192
"""Characters of one text or field: a longer one is cut."""
BATCH = 200
WAIT = 0.1
"""Seconds, or records, after which a batch is sent."""
WAITING = 5000
"""Records that may wait in a child while the parent does not read; more are dropped and counted."""

Record = dict[str, Any]


class CallLater(Protocol):
    """What is needed of a reactor."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall: ...


class Sender(Protocol):
    """What is needed of a channel."""

    @property
    def waiting(self) -> int: ...
    def send(self, kind: str, fields: Mapping[str, Any] | None = None) -> None: ...


def level_of(event: Mapping[str, Any]) -> str:
    """The event's level as one of LEVELS."""
    level = event.get("log_level")
    name: str = getattr(level, "name", "info")
    return name if name in RANKS else "error"


def is_noise(event: Mapping[str, Any]) -> bool:
    """Whether it is Twisted telling of a factory or a port that opens or closes, which is no outcome."""
    said = event.get("log_text") or event.get("log_format") or ""
    if not (getattr(event.get("log_source"), "noisy", False) or str(said).startswith(NOISE)):
        return False
    return level_of(event) in ("debug", "info")


def to_record(event: dict[str, Any]) -> Record:
    """The event as a record; never raises, whatever is inside it."""
    legacy = LEGACY if "log_text" in event else frozenset()
    failure = event.get("log_failure")
    return {
        "time": float(event.get("log_time", 0.0)),
        "level": level_of(event),
        "namespace": str(event.get("log_namespace", "")),
        "text": _text(event)[:MAX_TEXT],
        "fields": {name: _plain(value) for name, value in event.items() if name[:4] != "log_" and name not in legacy},
        "traceback": failure.getTraceback() if failure is not None else None,
    }


def _text(event: dict[str, Any]) -> str:
    """The event's sentence: as formatEvent makes it, but without its ways where the format has plain names only."""
    form = event.get("log_format")
    if type(form) is str and _is_simple(form):
        try:
            return form.format_map(event)
        except Exception:  # a name that is missing, a value that cannot be shown: formatEvent has words for it
            return formatEvent(event)
    return formatEvent(event)


@lru_cache(maxsize=1000)
def _is_simple(form: str) -> bool:
    """Whether each place in the format is the name of a field and nothing else."""
    try:
        return all(
            name is None or (name.isidentifier() and not conversion and not spec)
            for _, name, spec, conversion in Formatter().parse(form)
        )
    except ValueError:
        return False


def publish(role: str, record: Mapping[str, Any]) -> None:
    """Put a child's record into this process's log, as said by `role`; KeyError or ValueError where it is no record."""
    fields = {name: value for name, value in record["fields"].items() if not name.startswith("log_")}
    globalLogPublisher(
        {
            **fields,
            "log_time": float(record["time"]),
            "log_level": LogLevel.levelWithName(record["level"]),
            "log_namespace": str(record["namespace"]),
            "log_format": "{log_said}",
            "log_said": str(record["text"]),
            "log_role": role,
            "log_traceback": record["traceback"],
            "log_system": role,
        }
    )


def publish_all(role: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """`publish` for each of them."""
    for record in lines:
        publish(role, record)


@implementer(ILogObserver)
class ChannelObserver:
    """A child's log observer: sends records of at least `level` to the parent in batches, drops when they pile up."""

    def __init__(self, reactor: CallLater, channel: Sender, level: str = "info") -> None:
        self.reactor = reactor
        self.channel = channel
        self.level = level
        self.dropped = 0
        self._lines: list[Record] = []
        self._later: IDelayedCall | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        if RANKS[level_of(event)] < RANKS[self.level] or is_noise(event):
            return
        if len(self._lines) >= WAITING:
            self.dropped += 1
            return
        self._lines.append(to_record(event))
        if self._later is None:
            self._later = self.reactor.callLater(WAIT, self._send)

    def flush(self) -> None:
        """Send what is gathered now, for the last words of a process."""
        if self._later is not None:
            self._later.cancel()
        self._send()

    def _send(self) -> None:
        self._later = None
        while self._lines and not self.channel.waiting:
            batch, self._lines = self._lines[:BATCH], self._lines[BATCH:]
            if self.dropped:
                batch.append(self._said_dropped())
            self.channel.send("log", {"lines": batch})
        if self._lines:
            self._later = self.reactor.callLater(WAIT, self._send)

    def _said_dropped(self) -> Record:
        dropped, self.dropped = self.dropped, 0
        return {
            "time": time.time(),
            "level": "warn",
            "namespace": __name__,
            "text": f"{dropped} log lines were dropped: the log could not keep up",
            "fields": {"dropped": dropped},
            "traceback": None,
        }


def _plain(value: object) -> object:
    if type(value) is str:
        return value[:MAX_TEXT]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    try:
        return str(value)[:MAX_TEXT]
    except Exception as error:  # the value's own __str__, of which nothing is known
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
