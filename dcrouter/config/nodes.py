"""What a YAML file is made of, with the line and the column (from 1) where each thing begins.

`size` is how many nodes a node is, with all below it. An alias is its anchor's node, not a copy.
"""

from __future__ import annotations

from dcrouter.config.scalars import Value


class Scalar:
    """`text`: as written, variables expanded; `value`: typed; `broken`: a problem was already told of it."""

    __slots__ = ("broken", "column", "line", "text", "value")
    size = 1

    def __init__(self, line: int, column: int, text: str, value: Value, *, broken: bool = False) -> None:
        self.line = line
        self.column = column
        self.text = text
        self.value = value
        self.broken = broken


class Sequence:
    """A list."""

    __slots__ = ("column", "items", "line", "size")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.size = 1
        self.items: list[Node] = []


class Mapping:
    """Keys (as text) with their nodes, in the order of the file; of a key said twice, the first."""

    __slots__ = ("column", "entries", "line", "size")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.size = 1
        self.entries: dict[str, tuple[Scalar, Node]] = {}


Node = Scalar | Sequence | Mapping


def kind(node: Node) -> str:
    """What an error calls it."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a mapping"
    return "nothing" if node.value is None else "text" if isinstance(node.value, str) else "a scalar"
