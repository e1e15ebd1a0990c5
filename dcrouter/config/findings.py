"""What is wrong with a file: problems and warnings, each where it is, all of them at once.

routes.yaml:12:7: routes[0].tls.mode: 'terminat' is not one of passthrough, terminate (did you mean 'terminate'?)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from attrs import define, field, frozen

Step = str | int
"""A key of a mapping, or an index of a list."""
Path = tuple[Step, ...]

_PLAIN = re.compile(r"[A-Za-z0-9_*-]{1,64}")


@frozen(order=True)
class Finding:
    """`line` and `column` count from 1; `text` is a sentence without its place."""

    line: int
    column: int
    path: Path = field(order=False)
    text: str = field(order=False)

    def show(self, file: str) -> str:
        """The finding as one line for the operator."""
        where = f"{file}:{self.line}:{self.column}: "
        return where + (f"{spell(self.path)}: {self.text}" if self.path else self.text)


@define
class Findings:
    """What was found so far in one file. `elsewhere`: lines about files that it names, with their own places."""

    problems: list[Finding] = field(factory=list)
    elsewhere: list[str] = field(factory=list)
    warnings: list[Finding] = field(factory=list)

    def touch(self, path: Path) -> bool:
        """Whether there is a problem at `path` or below it: what was read there is not what the operator meant."""
        return any(problem.path[: len(path)] == path for problem in self.problems)


def spell(path: Path) -> str:
    """`routes[0].tls.mode`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _PLAIN.fullmatch(step) else repr(step[:64]))
    return text


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    by_fold = {one.lower(): one for one in known}
    close = get_close_matches(word[:64].lower(), by_fold, n=1, cutoff=0.6)
    return by_fold[close[0]] if close else None


def meant(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'terminate'?)`, or nothing where no known word is close."""
    close = closest(word, known)
    return f" (did you mean '{close}'?)" if close else ""
