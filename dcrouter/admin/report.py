"""What the service answers, in words for people: `dcrouter status`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from dcrouter.wire.hostport import hostport


def aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table: columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def status_lines(status: dict[str, Any]) -> Iterator[str]:
    """The answer of GET /status."""
    yield f"dcrouter {status['version']}, {status['state']}, pid {status['pid']}, up {duration(status['uptime'])}"
    yield f"configuration {status['config']}, state in {status['state_dir']}"
    yield from _last_reload(status.get("reloads", {}))
    for role, child in status["children"].items():
        again = f", started again {child['restarts']} time{'s' * (child['restarts'] > 1)}" if child["restarts"] else ""
        up = f", pid {child['pid']}, up {duration(child['uptime'])}" if child["pid"] else ""
        yield f"{role}: {child['state']}{up}{again}"
        counters = child.get("counters")
        if counters is None:
            yield "  does not answer"
        else:
            yield from _counters({name: value for name, value in counters.items() if name != "targets"}, "  ")
            for route, targets in counters.get("targets", {}).items():
                yield f"  targets of {word(route)}:"
                for label, state in targets.items():
                    yield f"    {word(label)}: {_target(state)}"
    yield from _listening(status["listeners"])
    dropped = {"access log": (status["access_log"] or {}).get("dropped", 0), "log": status["log"]["dropped"]}
    for what, lines in dropped.items():
        if lines:
            yield f"{lines} {what} lines were dropped"


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


def size(count: int) -> str:
    """`512`, `3.4 KB`, `12 MB` (1024-based, as in the configuration)."""
    units = ("", "KB", "MB", "GB", "TB")
    value, unit = float(count), 0
    while value >= 1000 and unit < len(units) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.{0 if unit == 0 or value >= 10 else 1}f} {units[unit]}".rstrip()


def _last_reload(reloads: dict[str, Any]) -> Iterator[str]:
    last = reloads.get("last")
    if last is None:
        return
    when = datetime.fromtimestamp(last["at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    count = reloads["count"]
    counts = f"{count} reload{'' if count == 1 else 's'}, {reloads['failed']} refused"
    yield f"{counts}; the last, {when}: " + (last["changes"] if last["ok"] else "refused, nothing has changed")
    for problem in last["problems"]:
        yield f"  {word(problem)}"


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
        for run in ports:
            yield f"listening on {hostport(address, '-'.join(map(str, run)))} ({', '.join(routes)})"


def _target(state: dict[str, Any]) -> str:
    """`down for 2 m 5 s: Connection refused; 3 active, 120 connections, 4 failed`."""
    health = state["health"]
    text = "" if health == "unchecked" else "not checked yet; " if health == "unknown" else f"{health}; "
    if "for" in state:
        text = f"{health} for {duration(state['for'])}; "
    elif "left" in state:
        text = f"{health} for another {duration(state['left'])}; "
    reason = state.get("reason")
    if reason:
        why = f": {word(reason)}; " if health in ("down", "ejected") else f"last failure: {word(reason)}; "
        text = text.removesuffix("; ") + why if health in ("down", "ejected") else text + why
    return text + f"{state['active']} active, {state['connections']} connections, {state['failed']} failed"


def _counters(counters: dict[str, Any], indent: str) -> Iterator[str]:
    for name, value in counters.items():
        if isinstance(value, dict):
            if value and not any(isinstance(inner, dict) for inner in value.values()):
                words = ", ".join(f"{word(inner)} {word(count)}" for inner, count in value.items() if count is not None)
                yield f"{indent}{word(name)}: {words}"
            elif value:
                yield f"{indent}{word(name)}:"
                yield from _counters(value, indent + "  ")
        else:
            yield f"{indent}{word(name)}: {word(value)}"


def word(value: object) -> str:
    """A value on one line, with nothing in it that would move the terminal."""
    return "".join(character if character.isprintable() else "?" for character in str(value))
