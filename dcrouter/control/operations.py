"""What the operator may do to the running service, besides looking at it and at its queue.

Answers are JSON-ready; one with `error` tells in `status` which of HTTP's codes it stands for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from twisted.internet.defer import Deferred, succeed

from dcrouter.config.admin import LogLevel
from dcrouter.control.certs import Certs
from dcrouter.errors import Unreachable

if TYPE_CHECKING:
    from dcrouter.control.parent import Parent

CONNECTIONS = 500
"""Listed in one answer: the edge spends a few milliseconds on them."""
BAD_REQUEST, NOT_FOUND, CONFLICT = 400, 404, 409


class Operations:
    """Of one parent."""

    def __init__(self, parent: Parent) -> None:
        self.parent = parent
        self.certs = Certs(parent.certificates, parent.office.desk)

    def reload(self) -> Deferred[dict[str, Any]]:
        """Reads the configuration again: the outcome of control/reload.py."""

        def answer(outcome: dict[str, Any]) -> dict[str, Any]:
            if outcome["problems"]:
                return {**outcome, "error": "\n".join(outcome["problems"]), "status": CONFLICT}
            return outcome

        return self.parent.reloads.ask().addCallback(lambda outcome: answer(outcome.to_plain()))

    def drain(self) -> dict[str, Any]:
        """Stops the service as SIGTERM does. `timeout`: seconds for connections to end, 0: as long as it takes."""
        if self.parent.state != "draining":
            self.parent.reactor.callLater(0, self.parent.reactor.stop)
        return {"state": "draining", "timeout": self.parent.drain_timeout()}

    def log_level(self, level: object) -> dict[str, Any]:
        """From now on, until the next reload or restart."""
        words = get_args(LogLevel)
        if level not in words:
            return {"error": f"log level: one of {', '.join(words)}", "status": BAD_REQUEST}
        self.parent.set_log_level(str(level))
        self.parent.log.info("the log level is {word} now", word=str(level))
        return {"level": level}

    def connections(self, role: str, after: str | None) -> Deferred[dict[str, Any]]:
        """A page of the connections that a process serves, the oldest first; `next`: what comes after it, if anything
        does. Those that others took over are theirs: `mail`, `handlers`.
        """
        return self._ask(role, "connections", {"after": after, "most": CONNECTIONS})

    def kill(self, session: str) -> Deferred[dict[str, Any]]:
        """Ends a connection at once, whoever serves it."""
        return Deferred.fromCoroutine(self._kill(session))

    def decide(self, fields: dict[str, Any]) -> Deferred[dict[str, Any]]:
        """What the edge decides for a connection that is only told of: see proxy/decide.py."""
        return self._ask("edge", "decide", {"question": fields})

    async def _kill(self, session: str) -> dict[str, Any]:
        killed = 0
        unreachable: Unreachable | None = None
        for role in self.parent.children.present() if self.parent.children is not None else ():
            try:
                killed += (await self._ask(role, "kill", {"session": session}))["killed"]
            except Unreachable as error:
                unreachable = error
        if killed:
            return {"killed": killed}
        if unreachable is not None:
            raise unreachable
        return {"error": f"there is no connection {session}", "status": NOT_FOUND}

    def _ask(self, role: str, kind: str, fields: dict[str, Any]) -> Deferred[dict[str, Any]]:
        children = self.parent.children
        if children is None or role not in children.present():
            return succeed({"error": f"there is no {role} process", "status": NOT_FOUND})
        return children.ask(role, kind, fields)
