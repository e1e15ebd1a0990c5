"""Whether the headers of a request or a message are as somebody wants them: each of some names with an exact value, or
an expression.

A header that comes several times fits where one of its values does. RFC 9110 section 5, RFC 5322 section 2.2 (names
without case).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from dcrouter.config.conditions import LONGEST_VALUE, value_expression
from dcrouter.config.names import REGEX


class HasHeaders(Protocol):
    """The head of a request or a message, as far as it is needed here."""

    def values(self, name: str) -> list[str]:
        """All values of the field `name` (in lower case), one character per byte."""


class Headers:
    """`wanted`: as `match.headers` says it."""

    __slots__ = ("_exact", "_expressions")

    def __init__(self, wanted: Mapping[str, str]) -> None:
        self._exact = [
            (name.lower(), value.encode().decode("latin-1"))
            for name, value in wanted.items()
            if not value.startswith(REGEX)
        ]
        self._expressions = [
            (name.lower(), value_expression(value).fullmatch)
            for name, value in wanted.items()
            if value.startswith(REGEX)
        ]

    def hold(self, head: HasHeaders) -> bool:
        """Whether all of them are there."""
        for name, wanted in self._exact:
            if wanted not in head.values(name):
                return False
        for name, matches in self._expressions:
            if not any(len(value) <= LONGEST_VALUE and matches(value) is not None for value in head.values(name)):
                return False
        return True
