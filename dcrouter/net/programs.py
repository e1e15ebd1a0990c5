"""Programs of the operator: run without a shell, for so long only, and gone when whoever runs them hears of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from shutil import which
from signal import Signals
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from dcrouter.net.waits import finish, within

TO_END = 5.0
"""Seconds between the first and the last word to a program that has to end."""
LINGERS = 0.5
"""Seconds for the last of its output, where what it has started holds its pipes open."""
MOST_OUTPUT = 4096
"""Octets of what it says that are kept: the last ones."""
_LONGEST_LINE = 200


async def run(
    reactor: Any, words: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None
) -> str | None:
    """None where it ended well, else why not, in one line: with the last that it wrote to its standard error or output.

    `words`: the program, which is looked for in PATH where it is no path, and its arguments; `environment`: beside
    ours. After `seconds`, or when this is cancelled, it is asked to end, and made to.
    """
    program = which(words[0])
    if program is None:
        return f"{words[0]}: there is no such program, or it may not be run"
    process = _Process(reactor)
    try:
        reactor.spawnProcess(process, program, list(words), {**os.environ, **(environment or {})})
    except OSError as error:
        return f"{words[0]} cannot be run: {error.strerror}"
    outcome: str | None = None
    try:
        await within(reactor, seconds, process.ended())
    except TimeoutError:
        outcome = f"has not ended within {seconds:g} s"
    finally:
        await finish(Deferred.fromCoroutine(process.end()))
    outcome = outcome or process.outcome
    if outcome is None:
        return None
    last = process.last_line()
    return f"{words[0]} {outcome}" + (f": {last}" if last else "")


class _Process(ProcessProtocol):
    """`outcome`: how it ended, None: well."""

    transport: IProcessTransport

    def __init__(self, reactor: Any) -> None:
        self.outcome: str | None = None
        self._reactor = reactor
        self._over = False
        self._waiting: list[Deferred[None]] = []
        self._timer: Any = None
        self._said = {1: b"", 2: b""}

    async def ended(self) -> None:
        if not self._over:
            waiting: Deferred[None] = Deferred(lambda waiting: self._waiting.remove(waiting))
            self._waiting.append(waiting)
            await waiting

    async def end(self) -> None:
        """It is gone when this returns."""
        for signal in ("TERM", "KILL"):
            if self._over:
                return
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(signal)
            with suppress(TimeoutError):
                await within(self._reactor, TO_END, self.ended())

    def last_line(self) -> str:
        """Printable, and of bounded length."""
        lines = (self._said[2].strip() or self._said[1].strip()).decode("utf-8", "replace").splitlines()
        return "".join(one if one.isprintable() else "?" for one in lines[-1][:_LONGEST_LINE]) if lines else ""

    def connectionMade(self) -> None:
        self.transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._said[childFD] = (self._said[childFD] + data)[-MOST_OUTPUT:]

    def processExited(self, reason: Failure) -> None:
        # Its own children may hold the pipes, and processEnded waits for their end.
        self._timer = self._reactor.callLater(LINGERS, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        ended: Any = reason.value
        if ended.signal is not None:
            self.outcome = f"was ended by {Signals(ended.signal).name}"
        elif ended.exitCode:
            self.outcome = f"has failed with status {ended.exitCode}"
        self._over = True
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)
