"""The access log: one JSON line per finished connection, written by the parent for the children.

Lines are gathered and written by a thread, one write at a time: a slow disk never holds up the parent, and while it is
slow at most MAX_WAITING bytes wait; more is dropped, counted, and reported once a minute.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dcrouter.admin.logfile import LogFile

MAX_WAITING = 8 * 1024 * 1024
LAST_WAIT = 5.0
"""Seconds that the end of the service waits for a disk."""
REPORT = 60.0
"""Seconds between two reports of dropped lines."""


class Reactor(Protocol):
    """What is needed of one."""

    def callLater(self, delay: float, callable: Callable[..., object], /, *args: object) -> IDelayedCall: ...
    def callInThread(self, callable: Callable[..., Any], /, *args: object) -> None: ...
    def callFromThread(self, callable: Callable[..., Any], /, *args: object) -> None: ...


class AccessLogWriter:
    """Writes to `file`, which it owns. `sample`: the share of sessions, 0 to 1, whose lines are kept, all or none.

    `dropped`: lines that were not written since the start, those that the children dropped included.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, file: LogFile, sample: float = 1.0) -> None:
        self.reactor = reactor
        self.file = file
        self.file.patience = inf  # a thread waits, and what comes meanwhile is kept
        self.dropped = 0
        self._limit = int(sample * (1 << 32))
        self._waiting = bytearray()
        self._writing = False
        self._idle = threading.Event()
        self._idle.set()
        self._reopen = False
        self._closed = False
        self._unreported = 0
        self._report: IDelayedCall | None = None

    def open(self) -> None:
        """Open the file now; StartError where that is impossible."""
        self.file.open()

    def write(self, lines: Sequence[Mapping[str, Any]], dropped: int = 0) -> None:
        """Write these lines soon; `dropped`: how many the child could not even send."""
        if dropped:
            self._count(dropped)
        for line in lines:
            if not self._kept(line):
                continue
            if len(self._waiting) >= MAX_WAITING or self._closed:
                self._count(1)
                continue
            self._waiting += json.dumps(line, ensure_ascii=True).encode() + b"\n"
        self._go_on()

    def reopen(self) -> None:
        """Open the file anew, after the write that is under way."""
        self._reopen = True
        self._go_on()

    def close(self) -> None:
        """Write what waits and close the file; blocks for that one write. Later lines are dropped."""
        if self._closed:
            return
        self._closed = True
        if self._report is not None:
            self._report.cancel()
        if not self._idle.wait(LAST_WAIT):
            # Who reads the other end of a pipe does not: the thread would keep the process from ending.
            self.file.patience = 0.0
            self._idle.wait(LAST_WAIT)
        self._reopen_if_asked()
        if self._waiting:
            self.file.write(bytes(self._waiting))
            self._waiting.clear()
        self.file.close()

    def _kept(self, line: Mapping[str, Any]) -> bool:
        # By the session and not by chance: a connection and its deliveries are kept or left out together.
        return zlib.crc32(str(line.get("session", line)).encode()) < self._limit

    def _go_on(self) -> None:
        if self._writing or self._closed:
            return
        self._reopen_if_asked()
        if self._waiting:
            data, self._waiting = bytes(self._waiting), bytearray()
            self._writing = True
            self._idle.clear()
            self.reactor.callInThread(self._write, data)

    def _reopen_if_asked(self) -> None:
        if self._reopen:
            self._reopen = False
            problem = self.file.reopen()
            if problem is not None:
                self.log.error("{problem}", problem=problem)

    def _write(self, data: bytes) -> None:
        self.file.write(data)
        self._idle.set()
        self.reactor.callFromThread(self._written)

    def _written(self) -> None:
        self._writing = False
        if self.file.lost:
            self._count(self.file.lost)
            self.file.lost = 0
        self._go_on()

    def _count(self, lines: int) -> None:
        self.dropped += lines
        self._unreported += lines
        if self._report is None and not self._closed:
            self._report = self.reactor.callLater(REPORT, self._tell)

    def _tell(self) -> None:
        self._report = None
        self.log.warn("{lines} access log lines were dropped", lines=self._unreported)
        self._unreported = 0
