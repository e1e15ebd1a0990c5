"""Two streams joined: every byte and every half-close passes, until both directions have ended.

A direction between two plain sockets begins with recv and send, which is cheapest for small exchanges; when a read
fills its buffer it goes over to splice(2) through a pooled pipe, so that bulk never enters Python. A direction with
TLS on either side is copied. Laws 4 (a step has a budget), 5 (only an empty pipe is refilled) and 8 (half-close first).
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Protocol

from dcrouter.errors import TlsError
from dcrouter.net.engine import FAILED, IN, OUT, READABLE, URGENT, WAIT, Task
from dcrouter.net.pipes import Pipe, Pipes
from dcrouter.net.stream import BULK, RECV, Plain, Stream

MOVES = 8
"""Reads that one step may make."""
_RECORDS = range(4 * MOVES)
"""The same of TLS records, of at most 16 KB each."""
SPLICED = 4 * BULK
"""Bytes asked for in one splice, the most that a step moves: they never enter Python, so this takes no longer than
copying BULK. One splice that takes all there is costs less than four that take a quarter each."""
GATHERS, FULL_PACE = 2, 4
"""Laps that moved a good deal, less those that did not: from so many on bytes gather, and more are not counted."""
SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

_buffer = memoryview(bytearray(BULK))
"""One for all connections: nothing stays in it after a step."""
_small = _buffer[:RECV]
HELD = 32 * 1024 * 1024
"""Bytes that sinks which block may leave over in all copying directions together; beyond that each reads RECV at once,
so that many clients that ask for much and read nothing cost 16 KB each and not BULK."""


class Held:
    """How many bytes are left over now, in all copying directions and bodies (net/measured.py) of this process."""

    total = 0


class Direction(Protocol):
    """One way of a relay.

    `count`: bytes that have left; `done`: the source's end was read, and passed on after everything before it. When
    `pump` raises, `source_failed` tells which side it was.
    """

    count: int
    done: bool
    source_failed: bool

    def pump(self, last: bool = False) -> bool:
        """Move what can be moved within the budget; True if there may be more at once. `last`: as Stream.finish."""

    def release(self) -> None:
        """Give back what is held, at the end."""


class Spliced:
    """Plain to plain."""

    __slots__ = (
        "_bulk",
        "_held",
        "_in_pipe",
        "_pace",
        "_pipe",
        "_pipes",
        "count",
        "done",
        "sink",
        "source",
        "source_failed",
    )

    def __init__(self, source: Plain, sink: Plain, pipes: Pipes, first: bytes | None = None) -> None:
        """`first`: bytes that were read from the source already."""
        self.source = source
        self.sink = sink
        self.count = 0
        self.done = self.source_failed = False
        self._pipes = pipes
        self._pipe: Pipe | None = None
        self._in_pipe = 0
        self._held: bytes | None = first
        self._bulk = False
        self._pace = 0

    def pump(self, last: bool = False) -> bool:
        if self._bulk and not self._held:
            return self._splice()
        source, sink = self.source, self.sink
        for _ in range(MOVES):
            data = self._held
            if data is None:
                if not source.ready & READABLE:
                    return False
                try:
                    data = source.recv()
                except OSError:
                    self.source_failed = True
                    raise
                if not data:
                    if data is not None:
                        self.done = sink.finish(last)
                    return False
                if len(data) == RECV:
                    self._bulk = True
            size = sink.send(data, last=source.over)
            self.count += size
            if size < len(data):
                self._held = data[size:]
                return False
            self._held = None
            if self._bulk:
                return self._splice()
        return True

    def _splice(self) -> bool:
        source, sink = self.source, self.sink
        if self._pipe is None:
            if not source.ready & READABLE:
                return False
            self._pipe = self._pipes.take()
            if self._pipe is None:
                self._slow_down()
                return True
        out, into = self._pipe
        moved = 0
        while True:
            if not self._in_pipe:
                if moved >= BULK:
                    break
                try:
                    self._in_pipe = os.splice(source.fd, into, SPLICED, flags=SPLICE)
                except BlockingIOError:
                    if source.ready & URGENT:
                        self._slow_down()
                        moved = SPLICED  # at TCP's urgent mark, perhaps, which only recv passes
                    else:
                        self._pause(moved)
                    break
                except OSError:
                    self.source_failed = True
                    raise
                if not self._in_pipe:
                    self._slow_down()
                    moved = SPLICED  # the end, or the urgent mark before it: recv tells
                    break
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
        return moved >= BULK

    def _pause(self, moved: int) -> None:
        """The source is empty. A transfer that keeps its pace lets bytes gather before its next lap."""
        self._pace = min(self._pace + 1, FULL_PACE) if moved >= RECV else self._pace - 1
        if self._pace >= GATHERS:
            self.source.gather()
        elif self._pace >= 0:
            self.source.wake_at(1)
        else:
            self._slow_down()
            self.source.ready &= ~IN

    def _slow_down(self) -> None:
        """No bulk transfer any more: each byte is worth a wake-up again."""
        self._bulk = False
        self._pace = 0
        self.source.wake_at(1)
        self.source.ready |= IN

    def release(self) -> None:
        if self._pipe is not None:
            self._pipes.give(self._pipe, self._in_pipe)
            self._pipe = None


class Copied:
    """Through Python, for a side that speaks TLS."""

    __slots__ = ("_counted", "_ended", "_held", "_plain", "count", "done", "sink", "source", "source_failed")

    def __init__(self, source: Stream, sink: Stream, first: bytes | None = None) -> None:
        self.source = source
        self.sink = sink
        self.count = 0
        self.done = self.source_failed = False
        self._plain = source if type(source) is Plain else None
        self._ended = False
        self._held: bytes | memoryview | None = first
        self._counted = 0

    def pump(self, last: bool = False) -> bool:
        source, sink, plain = self.source, self.sink, self._plain
        if self._ended:
            self.done = sink.finish(last)
            return False
        moved = 0
        for _ in _RECORDS:
            data = self._held
            if data is None:
                try:
                    # OpenSSL gives one record at a time, in memory of its own.
                    data = source.recv() if plain is None else plain.recv_bulk(_buffer if Held.total < HELD else _small)
                except (OSError, TlsError):
                    self.source_failed = True
                    raise
                if data is None:
                    return False
                if not data:
                    self._ended = True
                    self.done = sink.finish(last)
                    return False
            while True:
                size = sink.send(data)
                self.count += size
                moved += size
                if size == len(data):
                    break
                data = data[size:]
                if not size:
                    self._hold(data if self._held is not None else memoryview(bytes(data)))
                    return False
            if self._held is not None:
                self.release()
            if moved >= BULK:
                return True
        return True

    def _hold(self, data: bytes | memoryview) -> None:
        self._held = data
        Held.total += len(data) - self._counted
        self._counted = len(data)

    def release(self) -> None:
        self._held = None
        Held.total -= self._counted
        self._counted = 0


def direction(source: Stream, sink: Stream, pipes: Pipes, first: bytes | None = None) -> Direction:
    """The cheapest way from `source` to `sink`; `first` is sent before anything else."""
    if type(source) is Plain and type(sink) is Plain:
        return Spliced(source, sink, pipes, first)
    return Copied(source, sink, first)


async def relay(
    task: Task, forth: Direction, back: Direction, client: Stream, target: Stream, idle: float, half: float
) -> str:
    """Pump both ways until both have ended; gives who ended first: "client" or "target".

    `idle` seconds without a byte, or `half` seconds without one after the first end, raise TimedOut (0: for ever).
    The caller closes the streams and releases the directions.
    """
    engine = task.engine
    first = ""
    timeout = idle
    task.within(idle, "idle")
    while True:
        before = forth.count + back.count
        again = False
        if not forth.done:
            try:
                again = forth.pump(back.done)
            except (OSError, TlsError):
                if not forth.source_failed and not back.done:
                    with contextlib.suppress(OSError, TlsError):
                        back.pump()  # the target takes no more; what it said before, and why, is passed on
                raise
        if not back.done:
            again |= back.pump(forth.done)
        if forth.done or back.done:
            if forth.done and back.done:
                return first or "client"
            if (client if forth.done else target).ready & FAILED:
                # Nobody reads any more from the side that has ended: its reset is known from the event alone.
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            if not first:
                first = "client" if forth.done else "target"
                timeout = half
                task.within(half, "half_closed")
        if timeout and forth.count + back.count != before:
            task.until(engine.now + timeout)
        if again:
            engine.again(task)
        await WAIT
