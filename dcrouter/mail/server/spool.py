"""The spool as messages arrive: where their files are written, and how much memory and disk they take together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from dcrouter.mail.message import IN_MEMORY

HEADER = 64 * 1024
"""Octets that a header block may have where it is added to; and that a message may have in memory where there is much
of others already."""

MAX_UNWRITTEN = 32 * 1024 * 1024
"""Octets of all messages that may wait for the disk; beyond it a client waits until all that it has sent is written."""

MAX_HELD = 32 * 1024 * 1024
"""Octets of all messages that are held in memory while they arrive; beyond it each one becomes a file sooner."""

InThread = Callable[..., Deferred[Any]]


class Room(Protocol):
    """The space that is left on the disk; see queue/room."""

    def fits(self, octets: int) -> bool: ...

    def grant(self, octets: int) -> bool: ...


class Spool:
    """Where the files of large messages are written. `unwritten`: octets that wait for that, of all messages; `held`:
    octets of those that are no file, or not yet; `leaving`: of files whose removal is under way; `announced`: that
    messages which have begun said they have, and that are not here yet. `room` None: there is always some.
    """

    def __init__(
        self,
        directory: Path,
        in_thread: InThread,
        room: Room | None = None,
        *,
        limit: int = MAX_UNWRITTEN,
        memory: int = MAX_HELD,
    ) -> None:
        self.directory = directory
        self.in_thread = in_thread
        self.unwritten = 0
        self.held = 0
        self.leaving = 0
        self.announced = 0
        self._room = room
        self._limit = limit
        self._memory = memory

    @property
    def full(self) -> bool:
        return self.unwritten > self._limit

    @property
    def in_memory(self) -> int:
        """Octets up to which one message may be no file."""
        return IN_MEMORY if self.held <= self._memory else HEADER

    @property
    def coming(self) -> int:
        """Octets that the files will take beyond what the disk shows; below 0: that they will give back."""
        return self.unwritten - self.leaving

    def has_room(self, size: int) -> bool:
        """Whether a message that says to have `size` octets may begin; 0: it does not say."""
        return not size or self._room is None or self._room.fits(size + self.announced)

    def grant(self, octets: int) -> bool:
        """Whether so much more may be written."""
        return self._room is None or self._room.grant(octets)
