"""Whether the queue takes more: a bound on messages, and one on the space that is left on its disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

LOOK = 1.0
"""Seconds between two looks at the disk: a system call that most messages never see."""

BACK = 1.05
"""Times `min_free_disk` that must be free again after a shortage, so that the answer does not flutter."""


class Room:
    """`messages`: how many are queued. `clock`: seconds of any kind that only grow. `min_free` 0: the disk is not
    looked at; so it is where nothing is known of it.
    """

    _log = Logger()

    def __init__(
        self, messages: Callable[[], int], max_messages: int, directory: Path, min_free: int, clock: Callable[[], float]
    ) -> None:
        self._messages = messages
        self._max_messages = max_messages
        self._directory = directory
        self._min_free = min_free
        self._clock = clock
        self._looked = float("-inf")
        self._short = False

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
        now = self._clock()
        if self._min_free and now - self._looked >= LOOK:
            self._looked = now
            self._look()
        return f"less than {self._min_free} bytes are free in {self._directory}" if self._short else None

    def _look(self) -> None:
        try:
            disk = os.statvfs(self._directory)
        except OSError:
            return  # the write that follows tells what is wrong
        free = disk.f_bavail * disk.f_frsize
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
