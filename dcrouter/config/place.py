"""A place in the file: a node and the way that leads to it. What is wrong there is told here, and collected.

A problem at a key stands where the key stands, one in a list where the element stands: the line that must be changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

from dcrouter.config.findings import Finding, Findings, Path, Step
from dcrouter.config.nodes import Mapping, Node, Scalar, Sequence, kind

_PLACED = re.compile(r".*?:\d+:\d+: ", re.DOTALL)


class Invalid(Exception):
    """Nothing can be made of a place; why was told already."""


class Place:
    """`line`, `column`: where a problem with `node` is. `base`: the value that holds where the file says nothing."""

    __slots__ = ("base", "column", "findings", "line", "node", "parent", "step")

    def __init__(
        self, node: Node, findings: Findings, parent: Place | None, step: Step, line: int, column: int
    ) -> None:
        self.node = node
        self.findings = findings
        self.parent = parent
        self.step = step
        self.line = line
        self.column = column
        self.base: object = None

    @classmethod
    def root(cls, node: Node, findings: Findings) -> Place:
        """The whole document."""
        return cls(node, findings, None, "", node.line, node.column)

    @property
    def path(self) -> Path:
        """From the document's root to here."""
        return () if self.parent is None else (*self.parent.path, self.step)

    def tell(self, text: str) -> None:
        """A problem here; the file cannot be used."""
        self.findings.problems.append(Finding(self.line, self.column, self.path, text))

    def must_last(self, seconds: float, text: str) -> None:
        """A problem here where `seconds` is no time at all; `text`: what would come of it."""
        if seconds <= 0:
            self.tell(text)

    def warn(self, text: str) -> None:
        """Something that is allowed and hardly meant."""
        self.findings.warnings.append(Finding(self.line, self.column, self.path, text))

    def tell_of_file(self, lines: Iterable[str]) -> None:
        """Problems of a file that is named here: those with a place in it as they are, one without it as told here."""
        for line in lines:
            if _PLACED.match(line):
                self.findings.elsewhere.append(line)
            else:
                self.tell(line)

    def fail(self, text: str) -> NoReturn:
        """A problem here, after which nothing can be made of this place."""
        self.tell(text)
        raise Invalid

    def entries(self, wanted: str = "a mapping") -> Iterable[tuple[str, Place]]:
        """Keys and their places; fails where this is no mapping. `wanted`: what an error says was expected."""
        node = self.node
        if not isinstance(node, Mapping):
            self.unlike(wanted)
        findings = self.findings
        return [
            (word, Place(value, findings, self, word, key.line, key.column))
            for word, (key, value) in node.entries.items()
        ]

    def items(self) -> list[Place]:
        """The elements; fails where this is no list."""
        node = self.node
        if not isinstance(node, Sequence):
            self.unlike("a list, such as [...]")
        findings = self.findings
        return [Place(item, findings, self, at, item.line, item.column) for at, item in enumerate(node.items)]

    def scalar(self, wanted: str) -> Scalar:
        """The scalar here; fails where there is none, or nothing in it. `wanted`: what an error says was expected."""
        node = self.node
        if not isinstance(node, Scalar) or (node.value is None and not node.broken):
            self.unlike(wanted)
        if node.broken:
            raise Invalid
        return node

    def says(self, word: str) -> bool:
        """Whether this is a mapping that has this key."""
        return isinstance(self.node, Mapping) and word in self.node.entries

    def at(self, *steps: Step) -> Place:
        """The place further down, or as far as the file goes in that direction."""
        place = self
        for step in steps:
            node = place.node
            if isinstance(node, Mapping) and isinstance(step, str) and step in node.entries:
                key, value = node.entries[step]
                place = Place(value, place.findings, place, step, key.line, key.column)
            elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
                item = node.items[step]
                place = Place(item, place.findings, place, step, item.line, item.column)
            else:
                break
        return place

    def unlike(self, wanted: str) -> NoReturn:
        """Fails: something else than `wanted` is here. It is not repeated: `bob:password` may stand where users do."""
        if isinstance(self.node, Scalar) and self.node.broken:
            raise Invalid
        self.fail(f"expected {wanted}, not {kind(self.node)}")
