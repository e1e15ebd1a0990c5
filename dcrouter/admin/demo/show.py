"""What the person at the terminal reads: aligned columns, a mark for each step, colours only on a terminal."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from dcrouter.admin.demo.steps import Outcome, Step
from dcrouter.admin.report import aligned

GREEN, RED, BOLD, DIM, RESET = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
LOG_WAIT = 5.0
"""Seconds for the access log to have all its lines: the processes send them in batches."""
POLL = 0.05
MARK = 6
"""Columns of `ok` and `FAILED`."""


class Screen:
    """Writes to `out`, whole lines, at once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._coloured = out.isatty()

    def line(self, text: str = "", colour: str = "") -> None:
        print(self._in(colour, text) if text else "", file=self._out, flush=True)

    def title(self, text: str) -> None:
        """A heading, with an empty line before it."""
        self.line()
        self.line(text, BOLD)

    def facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """`name  value` lines."""
        for name, value in facts:
            self.line(f"  {name:<15} {value}")

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Aligned columns."""
        for line in aligned(rows):
            self.line(f"  {line}")

    def block(self, text: str) -> None:
        """Foreign text, indented."""
        self.line(textwrap.indent(text.rstrip("\n"), "    "))

    def step(self, step: Step, outcome: Outcome | Exception, kind_width: int, way_width: int) -> None:
        """One step and what came of it; `kind_width`, `way_width`: of the widest among all steps."""
        failed = isinstance(outcome, Exception)
        mark = self._in(RED if failed else GREEN, ("FAILED" if failed else "ok").ljust(MARK))
        start = f"  {mark} {step.kind:<{kind_width}}  {step.way:<{way_width}}"
        if isinstance(outcome, Exception):
            self.line(start.rstrip())
            self.line(f"  {'':<{MARK}} {'':<{kind_width}}  {outcome or type(outcome).__name__}", RED)
        else:
            self.line(f"{start}  {outcome.answer:<12} {outcome.seconds * 1000:7.1f} ms")
            self.line(f"  {'':<{MARK}} {'':<{kind_width}}  {outcome.remark}", DIM)

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{RESET}" if self._coloured and colour else text


def sessions(access_log: Path, ports: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Client's port -> its line of the access log; waits at most LOG_WAIT for all of `ports`."""
    wanted = set(ports)
    deadline = time.monotonic() + LOG_WAIT
    while True:
        try:
            lines = access_log.read_text("utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            lines = []
        whole = (json.loads(line) for line in lines if line.endswith("\n"))
        finished = (line for line in whole if "peer" in line)  # deliveries have lines of their own
        found = {line["peer"][1]: line for line in finished if line["peer"][1] in wanted}
        if len(found) == len(wanted) or time.monotonic() > deadline:
            return found
        time.sleep(POLL)


def essence(line: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """(route, target, bytes in/out, who ended it and why, phases) of a line of the access log."""
    phases = "  ".join(f"{name} {seconds * 1000:.1f}" for name, seconds in line["phases"].items())
    return (
        line.get("route", "-"),
        line.get("target", "-"),
        f"{line['bytes_in']}/{line['bytes_out']}",
        f"{line['ended_by']}: {line['reason']}",
        phases,
    )
