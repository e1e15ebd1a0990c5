"""Who exists, by a rule's `recipients_file`: read in a thread, looked at again while mail for it comes.

1. Nobody polls: a question that comes more than LOOK_AFTER seconds after the last look has the file looked at first
   (its time, size and inode), and one that comes earlier is answered at once.
2. A file that has changed is read when it has been quiet for QUIET seconds, and what was read counts only if it did not
   change meanwhile: a list that is being written is nobody's list. Until then whoever is only in the new one is
   answered "not known yet", never "there is no such one".
3. A file that is gone, empty or broken leaves the old list in force; one line in the log says so, once for each state
   of the file.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.config.lists import MOST_BYTES, existing
from dcrouter.match.listed import Listed

LOOK_AFTER = 1.0
QUIET = 1.0

_BREATHER = 2000
"""Lines after which the reading thread lets others run: parsing holds the interpreter, and mail is on its way."""

InThread = Callable[[Callable[[], "Seen"]], Deferred["Seen"]]


class Mark(NamedTuple):
    """What tells one state of a file from another; `problem` where there is no such file."""

    inode: int = 0
    size: int = 0
    changed: int = 0
    problem: str = ""


class Seen(NamedTuple):
    """What a look has found. `listed` None: nothing new, or nothing that can be used, which `problem` explains.

    `pending`: it changes just now, and is to be looked at again.
    """

    mark: Mark
    listed: Listed | None = None
    problem: str = ""
    pending: bool = False


class KnownRecipients:
    """One file. `clock`: monotonic seconds; `now`: the wall clock, which file times are compared with."""

    _log = Logger()

    def __init__(
        self, path: Path, in_thread: InThread, clock: Callable[[], float], now: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._in_thread = in_thread
        self._clock = clock
        self._now = now
        self._listed: Listed | None = None
        self._mark: Mark | None = None
        self._pending = False
        self._looked = float("-inf")
        self._waiting: list[Deferred[None]] | None = None

    def has(self, address: str) -> bool | Deferred[bool | None] | None:
        """Whether it exists; None: that cannot be told just now. Never fails."""
        if self._clock() - self._looked <= LOOK_AFTER:
            return self._answer(address)
        return self._look().addCallback(lambda _: self._answer(address))

    def _answer(self, address: str) -> bool | None:
        if self._listed is None:
            return None
        if address in self._listed:
            return True
        return None if self._pending else False

    def _look(self) -> Deferred[None]:
        """One look at a time; whoever asks meanwhile waits for the same."""
        done: Deferred[None] = Deferred()
        if self._waiting is not None:
            self._waiting.append(done)
            return done
        self._waiting = [done]
        before = self._mark
        self._in_thread(lambda: look(self._path, before, self._now)).addBoth(self._seen)
        return done

    def _seen(self, seen: Seen | Failure) -> None:
        if isinstance(seen, Failure):
            self._log.failure("{path} could not be looked at", seen, path=self._path)
        else:
            self._pending = seen.pending
            if not seen.pending:
                self._mark = seen.mark
            if seen.listed is not None:
                self._listed = seen.listed
                self._log.info("{path}: {count} recipients", path=str(self._path), count=len(seen.listed))
            elif seen.problem:
                self._log.error(
                    "{problem}; {instead}",
                    problem=seen.problem,
                    instead="nobody is accepted by it" if self._listed is None else "the list before stays in force",
                )
        self._looked = self._clock()
        waiting, self._waiting = self._waiting or [], None
        for waiter in waiting:
            waiter.callback(None)


def look(path: Path, before: Mark | None, now: Callable[[], float]) -> Seen:
    """Blocks: what there is to say of the file, which was `before` when it was last read or found wanting."""
    mark = _mark(path)
    if mark == before:
        return Seen(mark)
    if mark.problem:
        return Seen(mark, problem=mark.problem)
    if 0 <= now() - mark.changed / 1e9 < QUIET and before is not None:
        return Seen(mark, pending=True)
    try:
        with _opened(path) as file:
            listed = Listed(_patterns(path, file))
    except OSError as error:
        return Seen(mark, problem=_unreadable(path, error))
    except ValueError as error:
        return Seen(mark, problem=str(error))
    if _mark(path) != mark:
        return Seen(mark, pending=True)
    if not len(listed):
        return Seen(mark, problem=f"{path} lists nobody")
    return Seen(mark, listed)


def _mark(path: Path) -> Mark:
    try:
        found = path.stat()
    except OSError as error:
        return Mark(problem=_unreadable(path, error))
    if not stat.S_ISREG(found.st_mode):
        return Mark(problem=f"{path} is not a file")
    if found.st_size > MOST_BYTES:
        return Mark(problem=f"{path} is larger than {MOST_BYTES >> 20} MB")
    return Mark(found.st_ino, found.st_size, found.st_mtime_ns)


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path} cannot be read: {(error.strerror or str(error)).lower()}"


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
