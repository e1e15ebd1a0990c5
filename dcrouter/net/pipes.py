"""Pipes for splice(2), pooled: a direction takes one while it has bytes in flight and gives it back when it is
empty.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

Pipe = tuple[int, int]
"""(read end, write end)."""

SIZE = 1 << 20
"""Bytes asked for per pipe: 256 slots instead of 16, so that one splice can take all that a socket holds, and a link of
small segments fills it with more than 23 KB."""
LARGE = 32
"""Pipes that are made that large: 32 of the 64 MB that an unprivileged user has (pipe-user-pages-soft), beyond which
new pipes shrink to 8 KB."""
KEEP = 128
"""Empty pipes kept open for the next transfer."""


class Pipes:
    """The pool of one engine."""

    def __init__(self) -> None:
        self._free: list[Pipe] = []
        self._large: set[int] = set()

    def take(self) -> Pipe | None:
        """An empty pipe, or None where descriptors have run out: then bytes are copied instead."""
        if self._free:
            return self._free.pop()
        try:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        if len(self._large) < LARGE:
            with contextlib.suppress(OSError):  # beyond pipe-user-pages-soft the kernel refuses; a small pipe works too
                fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, SIZE)
                self._large.add(pipe[0])
        return pipe

    def give(self, pipe: Pipe, left: int = 0) -> None:
        """Take back a pipe. One with somebody's bytes `left` in it is closed."""
        if not left and len(self._free) < KEEP:
            self._free.append(pipe)
        else:
            self.discard(pipe)

    def discard(self, pipe: Pipe) -> None:
        """Close a pipe that still holds somebody's bytes."""
        self._large.discard(pipe[0])
        os.close(pipe[0])
        os.close(pipe[1])

    def close(self) -> None:
        """Close every pooled pipe."""
        while self._free:
            self.discard(self._free.pop())
