"""Which of many names is meant: exact names and wildcards, found by a few dictionary look-ups however many there are.

Patterns are those of config/names.py: `www.example.com`, `*.example.com` (exactly one label before it),
`**.example.com` (one or more), `re:...`; None is any name, and no name at all. Regular expressions are kept apart,
because each of them has to be tried: only those are worth it that could still come first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from dcrouter.config.names import REGEX, name_expression, normalise

__all__ = ["NameIndex", "normalise"]

T = TypeVar("T")


class NameIndex(Generic[T]):
    """Items under the patterns that they were added with; items of one pattern keep the order of adding.

    `expressions`: (what tells whether a name matches, item) in the order of adding.
    """

    __slots__ = ("_any", "_exact", "_many", "_one", "expressions")

    def __init__(self) -> None:
        self._exact: dict[str, list[T]] = {}
        self._one: dict[str, list[T]] = {}
        self._many: dict[str, list[T]] = {}
        self._any: list[T] = []
        self.expressions: list[tuple[Callable[[str], Any], T]] = []

    def add(self, pattern: str | None, item: T) -> None:
        """`pattern` is normalised, as the configuration gives it."""
        if pattern is None:
            self._any.append(item)
        elif pattern.startswith("**."):
            self._many.setdefault(pattern[3:], []).append(item)
        elif pattern.startswith("*."):
            self._one.setdefault(pattern[2:], []).append(item)
        elif pattern.startswith(REGEX):
            self.expressions.append((name_expression(pattern).fullmatch, item))
        else:
            self._exact.setdefault(pattern, []).append(item)

    def candidates(self, name: str | None) -> list[list[T]]:
        """The lists of all patterns but expressions that match `name` (normalised; None: the client told none), most
        specific first.

        Exact, then wildcards from the longest on, `*.` before `**.`, then any name. The lists are the index's own.
        """
        found: list[list[T]] = []
        if name is not None:
            items = self._exact.get(name)
            if items is not None:
                found.append(items)
            if self._one or self._many:
                self._wildcards(name, found)
        if self._any:
            found.append(self._any)
        return found

    def _wildcards(self, name: str, found: list[list[T]]) -> None:
        dot = name.find(".")
        if dot > 0:
            items = self._one.get(name[dot + 1 :])
            if items is not None:
                found.append(items)
        while dot > 0:
            items = self._many.get(name[dot + 1 :])
            if items is not None:
                found.append(items)
            dot = name.find(".", dot + 1)
