"""Drives machines that ask DNS (wire/asking) with answers that a test has written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from dcrouter.errors import Unreachable
from dcrouter.wire.asking import Asking, Found, Question

T = TypeVar("T")
FAILS = "fails"
Zone = Mapping[tuple[str, str], Sequence[str] | str]
"""(name in lower case, type) -> values, or FAILS."""


def run(asking: Asking[T], zone: Zone, asked: list[Question] | None = None) -> T:
    """What the machine returns; `asked` gathers its questions."""
    names = {name for name, _ in zone}
    try:
        question = next(asking)
        while True:
            if asked is not None:
                asked.append(question)
            name = question.name.lower().removesuffix(".")
            values = zone.get((name, question.kind)) or ()
            if values == FAILS:
                question = asking.throw(Unreachable("silent"))
                continue
            exists = any(known == name or known.endswith("." + name) for known in names)
            question = asking.send(Found(tuple(values), exists))
    except StopIteration as done:
        value: T = done.value
        return value
