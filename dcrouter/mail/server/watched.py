"""A file that changes while dcrouter runs: read in a thread, looked at again while mail comes that depends on it.

1. Nobody polls: a question that comes more than LOOK_AFTER seconds after the last look has the file looked at first
   (its time, size and inode), and one that comes earlier is answered at once.
2. A file that has changed is read when it has been quiet for QUIET seconds, and what was read counts only if it did not
   change meanwhile: a list that is being written is nobody's list.
3. A file that is gone or broken leaves what it said before in force; one line in the log says so, once for each state
   of the file.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.errors import reason_of

LOOK_AFTER = 1.0
QUIET = 1.0

InThread = Callable[[Callable[[], Any]], Deferred[Any]]
_Value = TypeVar("_Value", bound=Sized)


class Mark(NamedTuple):
    """What tells one state of a file from another; `problem` where there is no such file."""

    inode: int = 0
    size: int = 0
    changed: int = 0
    problem: str = ""


class Unusable(Exception):
    """Why nothing can be made of a file, as lines for the operator."""


@frozen
class Seen(Generic[_Value]):
    """What a look has found. `value` None: nothing new, or nothing that can be used, which `problem` explains.

    `pending`: it changes just now, and is to be looked at again.
    """

    mark: Mark
    value: _Value | None = None
    problem: str = ""
    pending: bool = False


class Watched(Generic[_Value]):
    """One file. `read` makes its value, in a thread, or raises Unusable. `contents`: what there are so many of, in the
    log; `without`: what holds where the file has never been read. `clock`: monotonic seconds; `now`: the wall clock,
    which file times are compared with.
    """

    _log = Logger()

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], _Value],
        in_thread: InThread,
        clock: Callable[[], float],
        now: Callable[[], float] = time.time,
        *,
        contents: str,
        without: str,
    ) -> None:
        self.value: _Value | None = None
        self.pending = False
        self._path = path
        self._read = read
        self._in_thread = in_thread
        self._clock = clock
        self._now = now
        self._contents = contents
        self._without = without
        self._mark: Mark | None = None
        self._looked = float("-inf")
        self._waiting: list[Deferred[None]] | None = None

    def look(self) -> Deferred[None] | None:
        """None: `value` is what the file says; else it is when this fires. One look at a time; whoever asks meanwhile
        waits for the same. Never fails.
        """
        if self._clock() - self._looked <= LOOK_AFTER:
            return None
        done: Deferred[None] = Deferred()
        if self._waiting is not None:
            self._waiting.append(done)
            return done
        self._waiting = [done]
        before = self._mark
        self._in_thread(lambda: look(self._path, self._read, before, self._now)).addBoth(self._seen)
        return done

    def _seen(self, seen: Seen[_Value] | Failure) -> None:
        if isinstance(seen, Failure):
            self._log.failure("{path} could not be looked at", seen, path=self._path)
        else:
            self.pending = seen.pending
            if not seen.pending:
                self._mark = seen.mark
            if seen.value is not None:
                self.value = seen.value
                self._log.info(
                    "{path}: {count} {contents}", path=str(self._path), count=len(seen.value), contents=self._contents
                )
            elif seen.problem:
                self._log.error(
                    "{problem}; {instead}",
                    problem=seen.problem,
                    instead=self._without if self.value is None else "what it said before stays in force",
                )
        self._looked = self._clock()
        waiting, self._waiting = self._waiting or [], None
        for waiter in waiting:
            waiter.callback(None)


def look(path: Path, read: Callable[[Path], _Value], before: Mark | None, now: Callable[[], float]) -> Seen[_Value]:
    """Blocks: what there is to say of the file, which was `before` when it was last read or found wanting."""
    mark = _mark(path)
    if mark == before:
        return Seen(mark)
    if mark.problem:
        return Seen(mark, problem=mark.problem)
    if 0 <= now() - mark.changed / 1e9 < QUIET and before is not None:
        return Seen(mark, pending=True)
    try:
        value = read(path)
    except OSError as error:
        return Seen(mark, problem=unreadable(path, error))
    except Unusable as error:
        return Seen(mark, problem=str(error))
    if _mark(path) != mark:
        return Seen(mark, pending=True)
    return Seen(mark, value)


def _mark(path: Path) -> Mark:
    try:
        found = path.stat()
    except OSError as error:
        return Mark(problem=unreadable(path, error))
    if not stat.S_ISREG(found.st_mode):
        return Mark(problem=f"{path} is not a file")
    return Mark(found.st_ino, found.st_size, found.st_mtime_ns)


def unreadable(path: Path, error: OSError) -> str:
    """In words."""
    return f"{path} cannot be read: {reason_of(error).lower()}"
