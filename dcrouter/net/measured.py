"""Bodies on their way from one stream to another, of which one knows where they end: by octets, or by asking a reader.

Each is one way, as a Direction of net/relay is, but leaves both streams open behind itself. What ends in the midst of a
body is a ConnectionResetError, and `source_failed` tells that it was the source.
"""

from __future__ import annotations

import errno
import os
from typing import Protocol

from dcrouter.errors import TlsError, WireError
from dcrouter.net.engine import IN, OUT, READABLE, URGENT
from dcrouter.net.pipes import Pipe, Pipes
from dcrouter.net.relay import HELD, SPLICE, SPLICED, Held
from dcrouter.net.stream import BULK, GATHER, RECV, Plain, Stream

PIECE = 65536
"""Octets read at once where they go through Python: what a blocked sink may leave over. RECV where others have left
over HELD in all, as in a relay.
"""
SPLICE_FROM = 65536
"""What is left of a body when a splice begins to pay."""

CUT_SHORT = "ended in the midst of a body"


class Sink(Protocol):
    """Where octets go: a Stream, or `Nowhere`."""

    def send(self, data: bytes | memoryview) -> int: ...


class Nowhere:
    """Takes everything."""

    def send(self, data: bytes | memoryview) -> int:
        return len(data)


class Reader(Protocol):
    """Frames a body while it passes (wire/http1/chunked.py)."""

    done: bool
    rest: bytes

    def feed(self, data: bytes) -> bytes: ...


class Body(Protocol):
    """One body. `count`: octets that have left, `first` included; `done`: all of them have; `rest`: what was read from
    the source behind the end.
    """

    count: int
    done: bool
    rest: bytes
    source_failed: bool

    def pump(self) -> bool:
        """Move what can be moved within the budget; True if there may be more at once."""

    def release(self) -> None:
        """Give back what is held, at the end."""


class _Rest:
    """What `sink` has not taken yet, beginning with `first`; what it leaves over is counted with everybody's."""

    __slots__ = ("_counted", "_held", "_sink", "count")

    def __init__(self, sink: Sink, first: bytes) -> None:
        self._sink = sink
        self._held = first
        self._counted = 0
        self.count = 0

    def _drain(self) -> bool:
        """Send it; False where the sink takes no more."""
        held = self._held
        while held:
            size = self._sink.send(held)
            if not size:
                self._keep(held)
                return False
            self.count += size
            held = held[size:]
        if self._counted:
            self._keep(b"")
        else:
            self._held = b""
        return True

    def _keep(self, held: bytes) -> None:
        self._held = held
        Held.total += len(held) - self._counted
        self._counted = len(held)


class Measured(_Rest):
    """`first`, and then `left` octets more from `source`; by splice(2) where both sides are plain and it pays."""

    __slots__ = (
        "_in_pipe",
        "_left",
        "_pipe",
        "_pipes",
        "_source",
        "_spliced",
        "done",
        "rest",
        "source_failed",
    )

    def __init__(self, source: Stream, sink: Sink, left: int, pipes: Pipes, first: bytes = b"") -> None:
        super().__init__(sink, first)
        self._source = source
        self._left = left
        self._pipes = pipes
        self._pipe: Pipe | None = None
        self._in_pipe = 0
        self._spliced = left >= SPLICE_FROM and type(source) is Plain and type(sink) is Plain
        self.done = self.source_failed = False
        self.rest = b""

    def pump(self) -> bool:
        began = self.count
        while True:
            if not self._drain():
                return False
            if self._spliced:
                return self._splice()
            if not self._left:
                self.done = True
                return False
            if self.count - began >= BULK:
                return True
            try:
                data = self._source.recv(min(PIECE if Held.total < HELD else RECV, self._left))
            except (OSError, TlsError):
                self.source_failed = True
                raise
            if data is None:
                return False
            if not data:
                raise self._cut()
            self._left -= len(data)
            self._held = data

    def _splice(self) -> bool:
        source, sink = self._source, self._sink
        assert isinstance(source, Plain) and isinstance(sink, Plain)
        if self._pipe is None:
            if not source.ready & READABLE:
                return False
            self._pipe = self._pipes.take()
            if self._pipe is None:
                self._spliced = False
                return True
        out, into = self._pipe
        moved = 0
        while True:
            if not self._in_pipe:
                if not self._left or moved >= BULK:
                    break
                try:
                    self._in_pipe = os.splice(source.fd, into, min(SPLICED, self._left), flags=SPLICE)
                except BlockingIOError:
                    if source.ready & URGENT:
                        self._spliced = False  # at TCP's urgent mark, perhaps, which only recv passes
                        moved = BULK
                    elif self._left > GATHER and moved:
                        source.gather()
                    else:
                        source.wake_at(1)
                        source.ready &= ~IN
                    break
                except OSError:
                    self.source_failed = True
                    raise
                if not self._in_pipe:
                    self._spliced = False  # the end, or the urgent mark before it: recv tells
                    moved = BULK
                    break
                self._left -= self._in_pipe
            if not sink.ready & OUT:
                return False
            try:
                size = os.splice(out, sink.fd, self._in_pipe, flags=SPLICE)
            except BlockingIOError:
                sink.blocked()
                return False
            self._in_pipe -= size
            self.count += size
            moved += size
        self._pipes.give(self._pipe)
        self._pipe = None
        if not self._left:
            source.wake_at(1)
            source.ready |= IN
            self.done = True
            return False
        if not self._spliced:
            source.wake_at(1)
            source.ready |= IN
        return moved >= BULK

    def _cut(self) -> ConnectionResetError:
        self.source_failed = True
        return ConnectionResetError(errno.ECONNRESET, CUT_SHORT)

    def release(self) -> None:
        if self._counted:
            self._keep(b"")
        if self._pipe is not None:
            self._pipes.give(self._pipe, self._in_pipe)
            self._pipe = None
        if isinstance(self._source, Plain) and not self.done:
            self._source.ready |= IN


class Framed(_Rest):
    """`first`, and then what `reader` makes of the octets of `source`, until it is done.

    WireError where it finds them wrong: `source_failed` then.
    """

    __slots__ = ("_reader", "_source", "done", "rest", "source_failed")

    def __init__(self, source: Stream, sink: Sink, reader: Reader, first: bytes = b"") -> None:
        super().__init__(sink, first)
        self._source = source
        self._reader = reader
        self.done = self.source_failed = False
        self.rest = b""

    def pump(self) -> bool:
        began, read = self.count, 0
        reader = self._reader
        while True:
            if not self._drain():
                return False
            if reader.done:
                self.rest = reader.rest
                self.done = True
                return False
            if self.count - began + read >= BULK:
                return True
            try:
                data = self._source.recv(PIECE if Held.total < HELD else RECV)
                if data is None:
                    return False
                if not data:
                    raise ConnectionResetError(errno.ECONNRESET, CUT_SHORT)
                self._held = reader.feed(data)
            except (OSError, TlsError, WireError):
                self.source_failed = True
                raise
            read += len(data)

    def release(self) -> None:
        self._keep(b"")
