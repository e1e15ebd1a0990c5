"""`action.select`: a callable of the operator's says which target a connection, or a request, goes to.

It is asked in the process of the handlers. Where it names nothing, fails, is slow, or is not there, the route's own
targets are used. Failures in a row switch it off for a while; those within SELECT_WITHIN of each other count as one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from dcrouter.interfaces import SELECT_WITHIN
from dcrouter.proxy.asking import Asking, Away, Failed
from dcrouter.targets.target import LiveTarget, Targets
from dcrouter.wire.http1.head import RequestHead

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session

FAILURES = 5
"""In a row, until it is left alone."""
OFF = 30.0
"""Seconds for which it is; one more failure after that, and it is again."""


class Record:
    """What is known of one callable, whatever routes name it. `off_until`: by the engine's clock."""

    __slots__ = (
        "__weakref__",
        "asked",
        "away",
        "errors",
        "failures",
        "last_failure",
        "off_until",
        "skipped",
        "slow",
        "turn",
    )

    def __init__(self) -> None:
        self.asked = 0
        self.errors = 0
        self.slow = 0
        self.away = 0
        self.skipped = 0
        self.failures = 0
        self.last_failure = 0.0
        self.off_until = 0.0
        self.turn = 0

    def failed(self, slow: bool, now: float) -> bool:
        """One more failure. True: it is switched off for it."""
        if slow:
            self.slow += 1
        else:
            self.errors += 1
        if now - self.last_failure >= SELECT_WITHIN:
            self.last_failure = now
            self.failures += 1
        if self.failures < FAILURES or self.off_until > now:
            return False
        self.off_until = now + OFF
        return True

    def shown(self, now: float) -> dict[str, Any]:
        """JSON-ready."""
        off = {"off_for": round(self.off_until - now, 1)} if self.off_until > now else {}
        counts = {word: getattr(self, word) for word in ("asked", "errors", "slow", "away", "skipped")}
        return {**counts, **off}


class Selection:
    """Of one route. `name`: of the callable."""

    log = Logger()

    def __init__(self, name: str, targets: Targets, asking: Asking, record: Record) -> None:
        self.name = name
        self.record = record
        self._targets = targets
        self._asking = asking

    async def order(
        self, session: Session, head: RequestHead | None = None, client_ip: str | None = None
    ) -> Sequence[LiveTarget]:
        """Where to try, in order. `head`: of the request, if it is one, and who has sent it."""
        chosen = await self._chosen(session, head, client_ip)
        if chosen is not None:
            return chosen
        return self._targets.order(session.facts, session.task.engine.now, head)

    async def _chosen(
        self, session: Session, head: RequestHead | None, client_ip: str | None
    ) -> Sequence[LiveTarget] | None:
        record, engine = self.record, session.task.engine
        if record.turn != self._asking.turns:
            # What has failed may have been mended.
            record.turn, record.failures, record.off_until = self._asking.turns, 0, 0.0
        if record.off_until > engine.now:
            record.skipped += 1
            return None
        record.asked += 1
        fields: dict[str, Any] = {"name": self.name, "facts": session.facts.to_plain(), "request": None}
        fields["asked"] = time.monotonic()
        if head is not None:
            fields["request"] = {
                "method": head.method,
                "host": head.host,
                "path": head.path,
                "query": head.query,
                "client_ip": client_ip,
                "headers": head.headers,
            }
        try:
            answer = await self._asking.ask(session.task, "select", fields)
            if "error" in answer:
                raise Failed(str(answer["error"]))
            places = answer["places"]
            chosen = None if places is None else self._targets.chosen([str(place) for place in places])
        except Away:
            record.away += 1
            return None
        except (Failed, KeyError, TypeError, ValueError) as error:
            self._failed(error, engine.now)
            return None
        if record.off_until:
            record.off_until = 0.0
            self.log.info("select {name} answers again", name=self.name)
        record.failures = 0
        return chosen

    def _failed(self, error: Exception, now: float) -> None:
        if self.record.failed(isinstance(error, Failed) and error.slow, now):
            self.log.warn(
                "select {name} is left alone for {seconds:g} s, targets are used as they are: {reason}",
                name=self.name,
                seconds=OFF,
                reason=str(error),
            )
