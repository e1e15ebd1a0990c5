"""dns-01 by a program of the operator: it is run with `present NAME VALUE`, and with `cleanup NAME VALUE` later.

NAME is the record's whole name with its final dot (`_acme-challenge.example.com.`), VALUE what its TXT record has to
say; the same three are in the environment (DCROUTER_ACTION, DCROUTER_NAME, DCROUTER_VALUE). It presents when the
world can see the record. Several values may be wanted at one name. An exit code other than 0 is a failure, and what it
wrote to its standard error is the reason. The arguments are those of lego's `exec`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from shutil import which
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from dcrouter.errors import AcmeError
from dcrouter.tls.acme.challenges import dns_value
from dcrouter.tls.acme.problems import plain
from dcrouter.tls.acme.waiting import finish, within

SECONDS = 150.0
"""For one run."""
TO_END = 5.0
"""Seconds between the first and the last word to a program that has to end."""
LINGERS = 0.5
"""Seconds for the last of its words, where somebody else holds its pipes open."""
_KEPT = 4096


class CommandSolver:
    """Runs `command`, which is looked for in PATH where its first word is no path."""

    def __init__(self, reactor: Any, command: Sequence[str], seconds: float = SECONDS) -> None:
        self._reactor = reactor
        self._command = tuple(command)
        self._seconds = seconds

    async def present(self, name: str, token: str, key_authorization: str) -> None:
        await self._run("present", f"_acme-challenge.{name}.", dns_value(key_authorization))

    async def cleanup(self, name: str, token: str, key_authorization: str) -> None:
        await self._run("cleanup", f"_acme-challenge.{name}.", dns_value(key_authorization))

    async def _run(self, action: str, name: str, value: str) -> None:
        program = which(self._command[0])
        if program is None:
            raise AcmeError(f"{self._command[0]}: there is no such program, or it may not be run")
        environment = {**os.environ, "DCROUTER_ACTION": action, "DCROUTER_NAME": name, "DCROUTER_VALUE": value}
        run = _Run(self._reactor)
        try:
            self._reactor.spawnProcess(run, program, [*self._command, action, name, value], environment)
        except OSError as error:
            raise AcmeError(f"{program} cannot be run: {error.strerror}") from error
        what = f"{self._command[0]} {action}"
        try:
            await within(self._reactor, self._seconds, run.ended())
        except TimeoutError as error:
            raise AcmeError(f"{what}: not done within {self._seconds:g} s{run.reason()}") from error
        finally:
            await finish(Deferred.fromCoroutine(run.end()))
        if run.outcome:
            raise AcmeError(f"{what}: {run.outcome}{run.reason()}")


class _Run(ProcessProtocol):
    """One process. `outcome`: how it ended, "" for well."""

    transport: IProcessTransport

    def __init__(self, reactor: Any) -> None:
        self.outcome = ""
        self._reactor = reactor
        self._over = False
        self._waiting: list[Deferred[None]] = []
        self._timer: Any = None
        self._words = b""

    async def ended(self) -> None:
        if not self._over:
            waiting: Deferred[None] = Deferred(lambda waiting: self._waiting.remove(waiting))
            self._waiting.append(waiting)
            await waiting

    async def end(self) -> None:
        """It is gone when this returns: asked first, then made to."""
        for signal in ("TERM", "KILL"):
            if self._over:
                return
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(signal)
            try:
                await within(self._reactor, TO_END, self.ended())
            except TimeoutError:
                continue

    def reason(self) -> str:
        """The end of what it wrote to its standard error."""
        words = plain(self._words.decode("utf-8", "replace"))
        return f": {words}" if words else ""

    def connectionMade(self) -> None:
        self.transport.closeStdin()

    def errReceived(self, data: bytes) -> None:
        self._words = (self._words + data)[-_KEPT:]

    def processExited(self, reason: Failure) -> None:
        # Its own children may hold the pipes, and processEnded waits for their end.
        self._timer = self._reactor.callLater(LINGERS, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        ended: Any = reason.value
        if ended.exitCode is None:
            self.outcome = f"ended by signal {ended.signal}"
        elif ended.exitCode:
            self.outcome = f"exit code {ended.exitCode}"
        self._over = True
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)
