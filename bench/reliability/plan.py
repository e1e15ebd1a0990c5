"""Which kills there are to do, in which order, and the file that says which of them are done.

A point is where in the life of one message, the trigger, the kill strikes; other messages are under way meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

from attrs import asdict, define, field, frozen

Scope = Literal["service", "mail"]
Power = Literal["kept", "lost", "some"]

POINTS = {
    "data": "after 354",
    "body": "in the body of the message",
    "commit": "after the commit, before the 250 is written",
    "before": "after the final dot, before the 250: in the commit, or at any moment",
    "after": "after the 250",
    "remote": "after the remote's 250, before it is settled",
    "settle": "in the commit that settles, before or after its sync",
    "dsn": "in the commit that makes a failure into a notification, before or after its sync",
    "start": "during start-up",
}


@frozen(kw_only=True)
class Kill:
    """`power`: what the disk loses of what was not synced; only a kill of the whole service loses anything."""

    point: str
    scope: Scope
    power: Power

    @property
    def name(self) -> str:
        return f"{self.point}/{self.scope}"


@define(kw_only=True)
class Figures:
    """What was counted at one point and scope.

    `acknowledged`: recipients of messages that got their 250 before these kills, since the kill before. `untold`: that
    had been kept though their client never got its 250. `again`: that came twice because the answer of the far end had
    not been stored. `lost`, `doubled` (came again although it had been), `damaged` (not as sent) must be 0.
    """

    kills: int = 0
    missed: int = 0
    powered_off: int = 0
    acknowledged: int = 0
    untold: int = 0
    again: int = 0
    lost: int = 0
    doubled: int = 0
    damaged: int = 0

    def add(self, other: Figures) -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def good(self) -> bool:
        return self.lost == self.doubled == self.damaged == 0


@define(kw_only=True)
class Progress:
    """`figures`: by the name of the kill. What is in the file is final: its messages have all arrived, or are lost."""

    seed: int
    figures: dict[str, Figures] = field(factory=dict)
    seconds: float = 0.0
    batches: int = 0

    @classmethod
    def load(cls, path: Path, seed: int) -> Progress:
        """What the file says; a new one where there is none."""
        if not path.exists():
            return cls(seed=seed)
        plain = json.loads(path.read_text())
        figures = {name: Figures(**values) for name, values in plain.pop("figures").items()}
        return cls(figures=figures, **plain)

    def save(self, path: Path) -> None:
        """At once and whole."""
        new = path.with_name(path.name + ".new")
        new.write_text(json.dumps(asdict(self), indent=1) + "\n")
        new.replace(path)

    def of(self, name: str) -> Figures:
        return self.figures.setdefault(name, Figures())

    def add(self, figures: dict[str, Figures]) -> None:
        for name, counted in figures.items():
            self.of(name).add(counted)

    def total(self, names: Iterable[str] | None = None) -> Figures:
        """All, or those of these names, together."""
        together = Figures()
        for name, counted in self.figures.items():
            if names is None or name in names:
                together.add(counted)
        return together


def outstanding(points: Sequence[str], kills: int, progress: Progress) -> list[Kill]:
    """The kills that are left of `kills` at each point, half of them of each scope, in random order.

    Scopes alternate: a mail process that dies again and again is started again later and later, by design.
    """
    random = Random(f"{progress.seed}/{progress.batches}")
    left: dict[Scope, list[Kill]] = {"service": [], "mail": []}
    for point in points:
        shares: dict[Scope, int] = {"service": kills // 2, "mail": kills - kills // 2}
        for scope, wanted in shares.items():
            name = f"{point}/{scope}"
            done = progress.figures[name].kills if name in progress.figures else 0
            powers: list[Power] = ["kept", "lost", "some"] if scope == "service" else ["kept"]
            first = random.randrange(3)
            left[scope] += [
                Kill(point=point, scope=scope, power=powers[(first + number) % len(powers)])
                for number in range(wanted - done)
            ]
    for some in left.values():
        random.shuffle(some)
    order: list[Kill] = []
    while left["service"] or left["mail"]:
        order += [left[scope].pop() for scope in random.sample(list(left), 2) if left[scope]]
    return order


def table(progress: Progress, points: Sequence[str]) -> str:
    """Markdown, one line for each point."""
    head = (
        "| point | kills of the service (of these: power loss) | of the mail process | acknowledged | kept, untold | "
    )
    head += "again, not yet stored | again, though stored | damaged | lost |"
    lines = [head, "|" + "---|" * 9]
    for point in [*points, ""]:
        both = [f"{point}/service", f"{point}/mail"] if point else None
        service = progress.total(both[:1] if both else [name for name in progress.figures if name.endswith("/service")])
        mail = progress.total(both[1:] if both else [name for name in progress.figures if name.endswith("/mail")])
        all_ = progress.total(both)
        cells: list[Any] = [POINTS[point] if point else "together", f"{service.kills} ({service.powered_off})"]
        cells += [mail.kills, all_.acknowledged, all_.untold, all_.again, all_.doubled, all_.damaged, all_.lost]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)
