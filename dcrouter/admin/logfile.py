"""A file that lines are appended to, and that is opened anew when logrotate has moved it away."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from dcrouter.errors import StartError

MODE = 0o640
"""The group may read logs; nobody else: they hold addresses of people."""


class LogFile:
    """`path` None: standard output. Opened at the first use, or by `open`. `lost`: lines that could not be written."""

    def __init__(self, path: Path | None, owner: tuple[int, int] | None = None) -> None:
        self.path = path
        self.owner = owner
        self.lost = 0
        self._fd = -1

    def open(self) -> None:
        """Open it, making its directory and itself where missing; StartError with one line where that is impossible.

        `owner` (uid, gid) gets a file that root made, so that it can be opened again after the step down.
        """
        if self._fd == -1:
            try:
                self._fd = self._opened()
            except OSError as error:
                raise StartError(
                    f"log file {error.filename or self.path} cannot be opened: {error.strerror}"
                ) from error

    def write(self, data: bytes) -> None:
        """Append all of `data` (whole lines); what the disk or the terminal does not take is counted in `lost`."""
        if self._fd == -1:
            self.open()
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            # Nowhere to say so: this is where it would be said. The operator sees the number in `dcrouter status`.
            self.lost += bytes(view).count(b"\n")

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
        with contextlib.suppress(FileExistsError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        if self.owner is not None and os.geteuid() == 0 and os.fstat(fd).st_uid == 0 and self.path.is_file():
            os.fchown(fd, *self.owner)
        return fd
