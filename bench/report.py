"""The table: one line for each figure of a row, with the ratios and, where a goal is set on it, the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench import mta, peers
from bench.machine import describe
from bench.mailrows import MAIL_ROWS, MailRow
from bench.rounds import Result
from bench.rows import ROWS, Goal, Row

_LINE = "{:<19} {:<24} {:>10} {:>10} {:>10} {:>10} {:>9} {:>9} {:>9}  {}"
_MAIL_LINE = "{:<19} {:<24} {:>10} {:>10} {:>10} {:>9} {:>9}  {}"
_OWN = ("busy", "resumed", "accept_kept", "through_kept", "edge")
"""Figures whose ratio to another side's says nothing."""


def catalogue() -> str:
    """All rows, for the reader who has not chosen yet."""
    lines = ["rows (python -m bench all, python -m bench mail, python -m bench ROW ...):", ""]
    rows: tuple[Row | MailRow, ...] = (*ROWS, *MAIL_ROWS)
    for row in rows:
        lines.append(f"  {row.name:<19} {row.about}")
        lines += [f"  {'':<19} goal: {goal}" for goal in row.goals]
    return "\n".join(lines)


def machine() -> str:
    """The machine and the versions."""
    return "\n".join(f"{name + ':':<13} {value}" for name, value in describe().items())


def head(row: Row | MailRow) -> str:
    """The head of the table that the row is in."""
    if isinstance(row, MailRow):
        line = _MAIL_LINE.format("row", "unit", *mta.NAMES, "/postfix", "/lines", "goal")
    else:
        line = _LINE.format("row", "unit", *peers.NAMES, "/haproxy", "/nginx", "/caddy", "goal")
    return "\n".join(["", line, "-" * len(line)])


def table(result: Result) -> str:
    """The lines of one row."""
    if result.skipped is not None:
        return "\n".join([f"{result.row.name:<19} skipped: {result.skipped}", *_notes(result)])
    return "\n".join([*_figures(result), *_notes(result)])


def _figures(result: Result) -> Iterator[str]:
    first = result.row.name
    mail = isinstance(result.row, MailRow)
    for figure, unit in result.row.units.items():
        values = [result.medians.get(name, {}).get(figure) for name in (mta.NAMES if mail else peers.NAMES)]
        verdicts = "; ".join(_verdict(goal, result) for goal in result.row.goals if goal.figure == figure)
        ratios = [_ratio(values[-1], other) for other in values[:-1]]
        if figure in _OWN:
            ratios = [""] * len(ratios)
        yield (
            (_MAIL_LINE if mail else _LINE)
            .format(first, unit, *(number(value) for value in values), *ratios, verdicts)
            .rstrip()
        )
        first = ""


def _notes(result: Result) -> Iterator[str]:
    for note in result.notes:
        yield f"{'':<19} {note}"
    for name, figures in result.medians.items():
        if figures.get("errors"):
            yield f"{'':<19} {name}: {figures['errors']:.0f} errors in a turn"


def _verdict(goal: Goal, result: Result) -> str:
    words = {True: "reached", False: "NOT REACHED", None: "not measured"}
    return f"{goal}: {words[goal.reached(result.medians)]}"


def _ratio(own: float | None, other: float | None) -> str:
    return "-" if own is None or not other else f"{own / other:.2f}x"


def number(value: float | None) -> str:
    """A figure with three or four digits that count."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def as_plain(results: list[Result]) -> dict[str, Any]:
    """Everything, as JSON-ready values."""
    rows = [
        {
            "row": result.row.name,
            "skipped": result.skipped,
            "units": result.row.units,
            "medians": result.medians,
            "turns": result.turns,
            "notes": result.notes,
            "goals": [{"goal": str(goal), "reached": goal.reached(result.medians)} for goal in result.row.goals],
        }
        for result in results
    ]
    return {"machine": describe(), "rows": rows}
