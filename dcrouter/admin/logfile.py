"""A file that lines are appended to, and that is opened anew when logrotate has moved it away."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import select
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from dcrouter.errors import StartError

MODE = 0o640
"""The group may read logs; nobody else: they hold addresses of people."""
PATIENCE = 0.2
"""Seconds that a line of the log waits for who reads a pipe or looks at a terminal; the parent waits with it."""
PIECE = 4096
"""Octets of one write there: as much fits wherever anything does (PIPE_BUF, pipe(7))."""
_LOOK = 0.1


class LogFile:
    """`path` None: standard output. Opened at the first use, or by `open`. `lost`: lines that could not be written.

    A pipe, a socket or a terminal that nobody reads on (a pager, Ctrl-S) is waited for `patience` seconds, and then no
    more until it takes something again; another thread may change `patience` meanwhile.
    """

    def __init__(self, path: Path | None, owner: tuple[int, int] | None = None) -> None:
        self.path = path
        self.owner = owner
        self.lost = 0
        self.patience = PATIENCE
        self._fd = -1
        self._stuck = False
        self._torn = False

    def open(self) -> None:
        """Open it, making its directory and itself where missing; StartError with one line where that is impossible.

        `owner` (uid, gid) gets a file that root made, so that it can be opened again after the step down. Where others
        than root can put links in its way, it is opened with the rights of `owner`.
        """
        if self._fd == -1:
            try:
                self._fd = self._opened()
            except OSError as error:
                where = f" ({error.filename})" if error.filename not in (None, str(self.path)) else ""
                raise StartError(f"log file {self.path} cannot be opened: {error.strerror}{where}") from error

    def write(self, data: bytes) -> None:
        """Append all of `data` (whole lines); what the disk or the terminal does not take is counted in `lost`."""
        if self._fd == -1:
            self.open()
        waits = not stat.S_ISREG(os.fstat(self._fd).st_mode)
        before = b"\n" if self._torn else b""
        view = memoryview(before + data)
        piece = PIECE if waits else len(view)
        last = b""
        try:
            while view and not (waits and self._is_stuck()):
                written = os.write(self._fd, view[:piece])
                last, view = bytes(view[written - 1 : written]), view[written:]
        except OSError:
            pass
        # Nowhere to say so: this is where it would be said. The operator sees the number in `dcrouter status`.
        self.lost += bytes(view).count(b"\n") - (0 if last else len(before))
        self._torn = last != b"\n" if last else self._torn

    def _is_stuck(self) -> bool:
        """Whether nothing can be written without waiting for longer than that."""
        asked = select.poll()
        asked.register(self._fd, select.POLLOUT)
        began = time.monotonic()
        while not asked.poll(0):
            if self._stuck or time.monotonic() - began >= self.patience:
                self._stuck = True
                return True
            asked.poll(_LOOK * 1000)
        self._stuck = False
        return False

    def reopen(self) -> str | None:
        """Open the path anew. None, or why not: then the old file stays in use."""
        if self.path is None or self._fd == -1:
            return None
        try:
            fresh = self._opened()
        except OSError as error:
            return f"log file {self.path} cannot be opened again: {error.strerror}; the old one stays in use"
        before, self._fd = self._fd, fresh
        os.close(before)
        return None

    def close(self) -> None:
        """Close it; the next write opens it again."""
        if self._fd != -1:
            os.close(self._fd)
            self._fd = -1

    def _opened(self) -> int:
        if self.path is None:
            return os.dup(1)
        if self.owner is None or os.geteuid() != 0:
            return _open(self.path)
        if not _is_roots(self.path):
            with _acting_as(*self.owner):
                return _open(self.path)
        fd = _open(self.path)
        if self.path.is_file():
            os.fchown(fd, *self.owner)
        return fd


def _open(path: Path) -> int:
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, MODE)
    except OSError as error:
        if error.errno == errno.ENXIO:  # else it would be waited for
            raise OSError(errno.ENXIO, "it is a pipe that nobody reads", str(path)) from error
        raise
    os.set_blocking(fd, True)
    return fd


def _is_roots(path: Path) -> bool:
    """Whether only root decides what `path` means. Elsewhere a link may wait there for root to follow it."""
    path = path.absolute()
    for place in (*reversed(path.parents), path):
        try:
            status = place.lstat()
        except FileNotFoundError:
            return True
        others_write = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
        if status.st_uid != 0 or (stat.S_ISDIR(status.st_mode) and others_write):
            return False
    return True


@contextlib.contextmanager
def _acting_as(uid: int, gid: int) -> Iterator[None]:
    """Open files with the rights of `uid` for a moment, and be root again."""
    groups, group = os.getgroups(), os.getegid()
    os.setgroups(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
