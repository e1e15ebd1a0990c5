"""dns-01 by a program of the operator: it is run with `present NAME VALUE`, and with `cleanup NAME VALUE` later.

NAME is the record's whole name with its final dot (`_acme-challenge.example.com.`), VALUE what its TXT record has to
say; the same three are in the environment (DCROUTER_ACTION, DCROUTER_NAME, DCROUTER_VALUE). It presents when the
world can see the record. Several values may be wanted at one name. An exit code other than 0 is a failure, and the last
line that it wrote to its standard error is the reason. The arguments are those of lego's `exec`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dcrouter.errors import AcmeError
from dcrouter.net.programs import run
from dcrouter.tls.acme.challenges import dns_value

SECONDS = 150.0
"""For one run."""


class CommandSolver:
    """Runs `command`."""

    def __init__(self, reactor: Any, command: Sequence[str], seconds: float = SECONDS) -> None:
        self._reactor = reactor
        self._command = tuple(command)
        self._seconds = seconds

    async def present(self, name: str, token: str, key_authorization: str) -> None:
        await self._run("present", f"_acme-challenge.{name}.", dns_value(key_authorization))

    async def cleanup(self, name: str, token: str, key_authorization: str) -> None:
        await self._run("cleanup", f"_acme-challenge.{name}.", dns_value(key_authorization))

    async def _run(self, action: str, name: str, value: str) -> None:
        told = {"DCROUTER_ACTION": action, "DCROUTER_NAME": name, "DCROUTER_VALUE": value}
        problem = await run(self._reactor, (*self._command, action, name, value), self._seconds, told)
        if problem is not None:
            raise AcmeError(f"{action}: {problem}")
