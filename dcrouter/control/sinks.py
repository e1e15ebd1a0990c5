"""Where lines go, as the parent sees it: the access log, and the log of its own; and the operator's window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from dcrouter.control import records


class AccessLog(Protocol):
    """Where the children's access lines go."""

    dropped: int

    def open(self) -> None: ...
    def write(self, lines: Sequence[Mapping[str, Any]], dropped: int = 0) -> None: ...
    def reopen(self) -> None: ...
    def close(self) -> None: ...


class LogSink(Protocol):
    """The file of our own log. `lost`: lines that could not be written; `reopen` gives None, or why it could not."""

    lost: int

    def reopen(self) -> str | None: ...


class Window(Protocol):
    """A service of Twisted. `renew`: whatever of it was taken away is made again."""

    def privilegedStartService(self) -> None: ...
    def startService(self) -> None: ...
    def stopService(self) -> Any: ...
    def renew(self) -> None: ...


LogLines = Callable[[str, Iterable[records.Record]], None]
"""(role, what a child has to say)"""
