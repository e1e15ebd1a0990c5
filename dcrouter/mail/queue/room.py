"""Whether the queue takes more: a bound on messages, and one on the space that is left on its disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from dcrouter.errors import StoreError, StoreFull

LOOK = 1.0
"""Seconds between two looks at the disk: a system call that most messages never see."""

SPARE = 0.02
"""Of `min_free_disk`, that bodies on their way leave besides: for the rows, journals and directories of mail."""

BACK = 1.05
"""Times `min_free_disk` that must be free again after a shortage, so that the answer does not flutter."""

TELL = 600.0
"""Seconds between two lines about messages that do not fit, where smaller ones still would."""

UNKNOWN = 1 << 62
"""Octets that are left where the disk does not tell."""

TO_OPEN = 1024 * 1024
"""Octets that opening the queue may take: SQLite's shared memory, and what was not written back by a process that was
killed."""


def unopened(directory: Path, problem: str) -> StoreError:
    """The error for a queue that cannot be opened: StoreFull where its disk has hardly any room."""
    place = next((one for one in (directory, *directory.parents) if one.exists()), directory)
    try:
        disk = os.statvfs(place)
    except OSError:
        return StoreError(problem)
    if disk.f_bavail * disk.f_frsize >= TO_OPEN and (disk.f_favail or not disk.f_files):
        return StoreError(problem)
    return StoreFull(f"{problem} (no room on its disk)")


class Room:
    """`messages`: how many are queued. `clock`: seconds of any kind that only grow. `min_free` 0: the disk is not
    looked at; so it is where nothing is known of it. `coming`: octets that were granted and that no disk shows yet.
    """

    _log = Logger()

    def __init__(
        self,
        messages: Callable[[], int],
        max_messages: int,
        directory: Path,
        min_free: int,
        clock: Callable[[], float],
        coming: Callable[[], int] = lambda: 0,
    ) -> None:
        self._messages = messages
        self._max_messages = max_messages
        self._directory = directory
        self._min_free = min_free
        self._clock = clock
        self._coming = coming
        self._left = 0
        self._looked = float("-inf")
        self._short = False
        self._told = float("-inf")

    def reload(self, max_messages: int, min_free: int) -> None:
        """Other bounds, from now on."""
        self._max_messages = max_messages
        self._min_free = min_free
        self._looked = float("-inf")
        self._short = self._short and bool(min_free)

    @property
    def shortage(self) -> str | None:
        """Why nothing more is taken, None: there is room."""
        if self._messages() >= self._max_messages:
            return f"the queue holds {self._max_messages} messages"
        if self._min_free and self._clock() - self._looked >= LOOK:
            self._look()
        return f"less than {self._min_free} bytes are free in {self._directory}" if self._short else None

    def fits(self, octets: int, *, whole: bool = False) -> bool:
        """Whether so much may be on its way besides what is, without less than `min_free` being left. `whole`: with
        that a message is complete.
        """
        if not self._min_free:
            return True
        spared = octets if whole else octets + int(self._min_free * SPARE)
        if self._clock() - self._looked >= LOOK or spared > self._left:
            self._look()
        if self._short or spared <= self._left:
            return not self._short
        if (now := self._clock()) - self._told >= TELL:
            self._told = now
            self._log.warn(
                "no room for a message of {octets} bytes: {left} are left in {directory} besides "
                "email.queue.min_free_disk and what is on its way",
                octets=octets,
                left=max(self._left, 0),
                directory=str(self._directory),
            )
        return False

    def grant(self, octets: int, *, whole: bool = False) -> bool:
        """As `fits`; where it does, they are on their way."""
        if not self.fits(octets, whole=whole):
            return False
        self._left -= octets
        return True

    def _look(self) -> None:
        self._looked = self._clock()
        try:
            disk = os.statvfs(self._directory)
        except OSError:
            self._left = UNKNOWN  # the write that follows tells what is wrong
            return
        free = disk.f_bavail * disk.f_frsize
        self._left = free - self._coming() - self._min_free
        short = free < self._min_free * (BACK if self._short else 1.0)
        if short != self._short:
            self._short = short
            if short:
                self._log.error(
                    "no more mail is taken: {free} bytes are free in {directory}, email.queue.min_free_disk is {least}",
                    free=free,
                    directory=str(self._directory),
                    least=self._min_free,
                )
            else:
                self._log.info("mail is taken again: {free} bytes are free", free=free)
