"""What the service answers, in words for people: `dcrouter status` and `dcrouter queue list`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

_INSTANTS = ("received", "due")
"""What `queue list` shows as a time of day; --json keeps the seconds."""


def status_lines(status: dict[str, Any]) -> Iterator[str]:
    """The answer of GET /status."""
    yield f"dcrouter {status['version']}, {status['state']}, pid {status['pid']}, up {duration(status['uptime'])}"
    yield f"configuration {status['config']}, state in {status['state_dir']}"
    for role, child in status["children"].items():
        again = f", started again {child['restarts']} times" if child["restarts"] else ""
        up = f", pid {child['pid']}, up {duration(child['uptime'])}" if child["pid"] else ""
        yield f"{role}: {child['state']}{up}{again}"
        counters = child.get("counters")
        if counters is None:
            yield "  does not answer"
        else:
            yield from _counters(counters, "  ")
    yield from _listening(status["listeners"])
    dropped = {"access log": (status["access_log"] or {}).get("dropped", 0), "log": status["log"]["dropped"]}
    for what, lines in dropped.items():
        if lines:
            yield f"{lines} {what} lines were dropped"


def queue_lines(messages: list[dict[str, Any]]) -> Iterator[str]:
    """The messages of GET /queue, each as `key=value` words in the order in which they came."""
    if not messages:
        yield "the queue is empty"
    for message in messages:
        yield "  ".join(f"{key}={_of_message(key, value)}" for key, value in message.items() if value is not None)


def duration(seconds: float) -> str:
    """`3 d 4 h`, `5 m 6 s`: two units are enough."""
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    rest = int(seconds)
    parts: list[str] = []
    for name, size in units:
        count, rest = divmod(rest, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def _listening(listeners: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A line for each address and run of ports with the same routes: a range can have thousands of ports."""
    runs: dict[tuple[str, tuple[str, ...]], list[list[int]]] = {}
    for listener in listeners:
        ports = runs.setdefault((listener["address"], tuple(listener["routes"])), [])
        if ports and ports[-1][-1] + 1 == listener["port"]:
            ports[-1][1:] = [listener["port"]]
        else:
            ports.append([listener["port"]])
    for (address, routes), ports in runs.items():
        shown = f"[{address}]" if ":" in address else address
        for run in ports:
            yield f"listening on {shown}:{'-'.join(map(str, run))} ({', '.join(routes)})"


def _of_message(key: str, value: object) -> str:
    if key in _INSTANTS and isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return "<>" if key == "sender" and value == "" else _word(value)


def _counters(counters: dict[str, Any], indent: str) -> Iterator[str]:
    for name, value in counters.items():
        if isinstance(value, dict):
            if value and not any(isinstance(inner, dict) for inner in value.values()):
                words = ", ".join(f"{_word(inner)} {_word(count)}" for inner, count in value.items())
                yield f"{indent}{_word(name)}: {words}"
            elif value:
                yield f"{indent}{_word(name)}:"
                yield from _counters(value, indent + "  ")
        else:
            yield f"{indent}{_word(name)}: {_word(value)}"


def _word(value: object) -> str:
    return "".join(character if character.isprintable() else "?" for character in str(value))
