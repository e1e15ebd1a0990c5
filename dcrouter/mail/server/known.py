"""Who exists, by a rule's `recipients_file`, which may change at any time (`Watched`).

While it does, whoever is only in the new list is answered "not known yet", never "there is no such one". A list that
names nobody is none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from twisted.internet.defer import Deferred

from dcrouter.config.lists import MOST_BYTES, existing
from dcrouter.mail.server.watched import InThread, Unusable, Watched
from dcrouter.match.listed import Listed

_BREATHER = 2000
"""Lines after which the reading thread lets others run: parsing holds the interpreter, and mail is on its way."""


class KnownRecipients(Watched[Listed]):
    """One file."""

    def __init__(
        self, path: Path, in_thread: InThread, clock: Callable[[], float], now: Callable[[], float] = time.time
    ) -> None:
        without = "nobody is accepted by it"
        super().__init__(path, read, in_thread, clock, now, contents="recipients", without=without)

    def has(self, address: str) -> bool | Deferred[bool | None] | None:
        """Whether it exists; None: that cannot be told just now. Never fails."""
        looking = self.look()
        return self._answer(address) if looking is None else looking.addCallback(lambda _: self._answer(address))

    def _answer(self, address: str) -> bool | None:
        if self.value is None:
            return None
        if address in self.value:
            return True
        return None if self.pending else False


def read(path: Path) -> Listed:
    """Blocks. Raises OSError and Unusable."""
    if path.stat().st_size > MOST_BYTES:
        raise Unusable(f"{path} is larger than {MOST_BYTES >> 20} MB")
    try:
        with _opened(path) as file:
            listed = Listed(_patterns(path, file))
    except ValueError as error:
        raise Unusable(str(error)) from error
    if not len(listed):
        raise Unusable(f"{path} lists nobody")
    return listed


def _opened(path: Path) -> IO[str]:
    """Never waits: a pipe that has taken the file's place is read as one that is empty."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    return open(opened, encoding="utf-8-sig", errors="surrogateescape")


def _patterns(path: Path, file: IO[str]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        if number % _BREATHER == 0:
            time.sleep(0.001)
        try:
            if not line.isascii():
                line.encode("utf-8")  # what could not be decoded cannot be encoded
            pattern = existing(line)
        except UnicodeEncodeError as error:
            byte = ord(line[error.start]) & 0xFF
            raise ValueError(f"{path}:{number}:{error.start + 1}: byte 0x{byte:02x} is not UTF-8") from None
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
        if pattern is not None:
            yield pattern
