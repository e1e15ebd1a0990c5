"""A program of the operator's, run without a shell and for so long only."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from signal import Signals
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

MOST_OUTPUT = 4096
"""Octets of what it says that are kept: the last ones."""
LAST_WORDS = 0.5
"""Seconds for its output to end when it has ended itself."""


def run(reactor: Any, words: Sequence[str], timeout: float) -> Deferred[str | None]:
    """Runs `words`, a program and its arguments: None where it ended well, else why not, in one line. Never fails.

    After `timeout` seconds it is killed. Cancelling kills it too.
    """
    program = _Program(reactor, words, timeout)
    try:
        reactor.spawnProcess(program, words[0], list(words), env=dict(os.environ), childFDs={0: "w", 1: "r", 2: "r"})
    except OSError as error:
        program.end(f"cannot be run: {error.strerror}")
    else:
        program.started()
    return program.done


class _Program(ProcessProtocol):
    def __init__(self, reactor: Any, words: Sequence[str], timeout: float) -> None:
        self.done: Deferred[str | None] = Deferred(lambda _: self.kill())
        self._reactor = reactor
        self._words = words
        self._timeout = timeout
        self._said = {1: b"", 2: b""}
        self._late = False
        self._timer: Any = None

    def started(self) -> None:
        if not self.done.called:
            self._again(self._timeout, self._expire)

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._said[childFD] = (self._said[childFD] + data)[-MOST_OUTPUT:]

    def processExited(self, reason: Failure) -> None:
        # What it has started may live on, and keep its output open.
        assert self.transport is not None
        self._again(LAST_WORDS, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        error = reason.value
        if self._late:
            self.end(f"has not ended within {self._timeout:g} s")
        elif isinstance(error, ProcessTerminated) and error.signal is not None:
            self.end(f"was ended by {Signals(error.signal).name}")
        elif status := getattr(error, "exitCode", 0):
            self.end(f"has failed with status {status}")
        else:
            self.end(None)

    def end(self, problem: str | None) -> None:
        self._again(0.0, None)
        if self.done.called:
            return
        lines = (self._said[2].strip() or self._said[1].strip()).decode("utf-8", "replace").splitlines()
        last = "".join(one if one.isprintable() else "?" for one in lines[-1][:200]) if lines else ""
        told = problem and f"{self._words[0]} {problem}" + (f": {last}" if last else "")
        self.done.callback(told)

    def kill(self) -> None:
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")

    def _again(self, seconds: float, act: Callable[[], None] | None) -> None:
        """The one timer: from now on this."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if act is None else self._reactor.callLater(seconds, act)

    def _expire(self) -> None:
        self._late = True
        self.kill()
