"""What one request must be like: its path, its method, its headers. For routes, and for one of a route's targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from dcrouter.config import paths
from dcrouter.config.paths import Segments
from dcrouter.match.headers import HasHeaders, Headers


class Request(HasHeaders, Protocol):
    """A request's head, as far as it is needed here."""

    @property
    def method(self) -> str: ...


class RequestConditions:
    """All that is asked must hold; None: not asked."""

    __slots__ = ("_headers", "_matches", "_methods")

    def __init__(
        self,
        *,
        path: Sequence[str] | None = None,
        methods: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`path`: patterns, of which one must match."""
        self._matches = None if path is None else [paths.pattern(text).matches for text in path]
        self._methods = None if methods is None else frozenset(methods)
        self._headers = None if headers is None else Headers(headers)

    def hold(self, head: Request, path: Segments | None) -> bool:
        """`path`: one reading of the request's path (config/paths.py)."""
        if self._methods is not None and head.method not in self._methods:
            return False
        if self._matches is not None:
            for matches in self._matches:
                if matches(path):
                    break
            else:
                return False
        return self._headers is None or self._headers.hold(head)
