"""One child process, from its start to its end: `python -m dcrouter.service ROLE`, with a channel as descriptor 3.

Descriptor 4 is the state directory's lock: a child that outlives its parent keeps the directory from a second instance.
Whatever the process writes to standard output or error is a log line. The channel is read to its end after the process
has ended, so its last words arrive.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from signal import Signals
from typing import Any, Literal

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.net.channel import Channel

State = Literal["starting", "ready", "draining", "ended"]
Command = Callable[[str], Sequence[str]]
"""role -> the program and its arguments."""
MAX_LINE = 4096
ORPHANED = 1.0
"""Seconds that a process lives on after it has lost its channel."""


def command(role: str) -> Sequence[str]:
    """How a child is started: the same Python, without its working directory on the path."""
    return (sys.executable, "-P", "-m", "dcrouter.service", role)


_ALLOCATOR: dict[str, dict[str, str]] = {
    "edge": {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=200:glibc.malloc.mxfast=0:glibc.malloc.hugetlb=1"},
    "mail": {"MALLOC_MMAP_THRESHOLD_": str(1024 * 1024), "MALLOC_TRIM_THRESHOLD_": str(8 * 1024 * 1024)},
}
"""Settings of glibc. Edge: a TLS handshake takes and gives back hundreds of small pieces, more of a size than its cache
keeps of itself; with more of them a connection costs 4 % less, and in huge pages, where the kernel has some for who
asks (madvise(2), MADV_HUGEPAGE), another 2 to 5 %. Mail: else bodies of 100 KB are taken from the kernel
and given back, page by page, each time, for a tenth of the processor time that such a message costs."""


def environment(role: str = "") -> dict[str, str]:
    """What a child starts with: ours, and our settings of OpenSSL (openssl.cnf) and of the allocator unless the
    operator has his own.
    """
    allocator = _ALLOCATOR.get(role, {})
    return {"OPENSSL_CONF": str(files("dcrouter.tls") / "openssl.cnf"), **allocator, **os.environ}


class Child(ProcessProtocol):
    """A life of one role. `received` gets every message but `ready` and `drained`; `changed` is told each new `state`.

    `pid` 0 before `start`; `cause`: how it ended, for people, set when `state` is ended.
    """

    log = Logger()

    def __init__(
        self,
        role: str,
        reactor: Any,
        received: Callable[[Child, str, dict[str, Any], list[int]], None],
        changed: Callable[[Child], None],
    ) -> None:
        self.role = role
        self.reactor = reactor
        self.received = received
        self.changed = changed
        self.state: State = "starting"
        self.pid = 0
        self.started = 0.0
        self.cause = ""
        self._lines: dict[int, bytes] = {1: b"", 2: b""}
        self._channel: Channel | None = None
        self._orphaned: IDelayedCall | None = None

    def start(self, command: Sequence[str], lock: int) -> None:
        """Start the process; OSError where that is impossible. `lock` (or -1) stays the caller's."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs, open(os.devnull, "rb") as nothing:
            descriptors: dict[int, int | str] = {0: nothing.fileno(), 1: "r", 2: "r", 3: theirs.fileno()}
            if lock != -1:
                descriptors[4] = lock
            try:
                process = self.reactor.spawnProcess(
                    self, command[0], list(command), env=environment(self.role), childFDs=descriptors
                )
            except OSError:
                ours.close()
                raise
        self.pid = process.pid or 0
        self.started = self.reactor.seconds()
        self._channel = Channel(self.reactor, ours, self._message, self._channel_lost)
        self._channel.start()

    def send(self, kind: str, fields: Mapping[str, Any] | None = None, fds: Sequence[int] = ()) -> None:
        """As Channel.send; nothing when the process is gone."""
        if self._channel is not None:
            self._channel.send(kind, fields, fds)

    def drain(self, timeout: float) -> None:
        """Let it end what it has begun, for at most `timeout` seconds (0: as long as it takes)."""
        if self.state != "ended":
            self.send("drain", {"timeout": timeout})
            self._become("draining")

    def dismiss(self) -> None:
        """Close the channel: a child without a parent ends by itself."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def kill(self) -> None:
        """End the process now."""
        if self.transport is not None and self.state != "ended":
            try:
                self.transport.signalProcess("KILL")
            except ProcessExitedAlready:
                self.log.debug("{role} has ended already", role=self.role)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, rest = (self._lines[childFD] + data).split(b"\n")
        while len(rest) > MAX_LINE:
            lines.append(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        self._lines[childFD] = rest
        for line in lines:
            self._said(line)

    def processExited(self, reason: Failure) -> None:
        self.cause = _cause(reason)
        if self._orphaned is not None and self._orphaned.active():
            self._orphaned.cancel()
        self._become("ended")

    def processEnded(self, reason: Failure) -> None:
        for rest in self._lines.values():
            self._said(rest)

    def _said(self, line: bytes) -> None:
        if line.strip():
            text = line[:MAX_LINE].decode("utf-8", "replace")
            self.log.warn("{role} (pid {pid}) wrote: {line}", role=self.role, pid=self.pid, line=text)

    def _message(self, kind: str, fields: dict[str, Any], fds: list[int]) -> None:
        if kind == "ready":
            if self.state == "starting":  # else it was told to drain before
                self._become("ready")
        elif kind == "drained":
            self.dismiss()
        else:
            self.received(self, kind, fields, fds)

    def _channel_lost(self, reason: str) -> None:
        self._channel = None
        # Normal for a process that has ended or ends just now; one that lives on without a channel is of no use.
        if self.state in ("starting", "ready"):
            self._orphaned = self.reactor.callLater(ORPHANED, self.kill)

    def _become(self, state: State) -> None:
        self.state = state
        self.changed(self)


def _cause(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessTerminated) and error.signal is not None:
        return f"killed by {Signals(error.signal).name}"
    return f"exit status {getattr(error, 'exitCode', 0) or 0}"
