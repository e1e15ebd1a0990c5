"""`select` of an egress rule: the operator's code is asked, in the process of the handlers, how a connection is made.

1. Each question has EGRESS_WITHIN seconds; where the process is not there (yet), it may come within as much.
2. Failures in a row leave the code alone for a while, so that mail does not wait for it in a long line. What it does
   not say decides `on_failure` of its rule.
"""

from __future__ import annotations

import time
from typing import Any

from attrs import asdict
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.interfaces import EGRESS_WITHIN, Departure
from dcrouter.net.channel import Channel

MOST_WAITING = 1000
"""Questions at a time."""
MOST_UNSENT = 64
"""Messages that the process has not taken from the channel yet."""

FAILURES = 5
"""In a row, until code is left alone."""
OFF = 10.0
"""Seconds for which it is; one more failure after that, and it is again."""


class NoAnswer(Exception):
    """There is none; why."""


class Record:
    """What is known of one callable. `off_until`: by the clock."""

    def __init__(self) -> None:
        self.asked = 0
        self.failed = 0
        self.failures = 0
        self.off_until = 0.0
        self.reason = ""

    def shown(self, now: float) -> dict[str, Any]:
        """JSON-ready."""
        off = {"off_for": round(self.off_until - now, 1), "reason": self.reason} if self.off_until > now else {}
        return {"asked": self.asked, "failed": self.failed, **off}


class Asking:
    """Of one mail process."""

    _log = Logger()

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._channel: Channel | None = None
        self._number = 0
        self._waiting: dict[int, Deferred[dict[str, Any]]] = {}
        self._coming: list[Deferred[None]] = []
        self._records: dict[str, Record] = {}

    def meet(self, channel: Channel | None) -> None:
        """The process is there, with its code as it is now; or (None) gone, and with it every answer."""
        self._channel = channel
        if channel is None:
            waiting, self._waiting = self._waiting, {}
            for answer in waiting.values():
                answer.errback(Failure(NoAnswer("the process of the handlers has gone")))
            return
        for record in self._records.values():
            record.failures, record.off_until = 0, 0.0  # what has failed may have been mended
        coming, self._coming = self._coming, []
        for one in coming:
            one.callback(None)

    def answered(self, fields: dict[str, Any]) -> None:
        """The process has said something; what comes too late is nobody's."""
        answer = self._waiting.pop(fields["id"], None)
        if answer is not None:
            answer.callback(fields)

    def reload(self, names: frozenset[str]) -> None:
        """Those that are named from now on."""
        self._records = {name: record for name, record in self._records.items() if name in names}

    def status(self) -> dict[str, Any]:
        """JSON-ready, by name."""
        now = self._clock.seconds()
        return {name: record.shown(now) for name, record in self._records.items()}

    async def ask(self, name: str, departure: Departure) -> dict[str, Any]:
        """What it has said, as handlers/egress.py puts it; NoAnswer."""
        record = self._records.setdefault(name, Record())
        if record.off_until > self._clock.seconds():
            raise NoAnswer(f"left alone for a while: {record.reason}")
        record.asked += 1
        try:
            answer = await self._answer(name, departure)
        except NoAnswer as error:
            self._failed(name, record, str(error))
            raise
        if record.failures >= FAILURES:
            self._log.info("egress: {name} answers again", name=name)
        record.failures = 0
        return answer

    async def _answer(self, name: str, departure: Departure) -> dict[str, Any]:
        channel = self._channel
        if channel is None:
            await self._come()
            channel = self._channel
        if channel is None or len(self._waiting) >= MOST_WAITING or channel.waiting > MOST_UNSENT:
            raise NoAnswer("too many questions wait")
        self._number += 1
        number = self._number
        answer: Deferred[dict[str, Any]] = Deferred(lambda _: self._forget(number))
        self._waiting[number] = answer
        answer.addTimeout(EGRESS_WITHIN, self._clock)
        channel.send("egress", {"id": number, "name": name, "asked": time.monotonic(), "departure": asdict(departure)})
        try:
            fields = await answer
        except (TimeoutError, CancelledError) as error:
            raise NoAnswer(f"no answer within {EGRESS_WITHIN:g} s") from error
        if "error" in fields:
            raise NoAnswer(str(fields["error"]))
        return fields

    def _forget(self, number: int) -> None:
        self._waiting.pop(number, None)

    async def _come(self) -> None:
        if len(self._coming) >= MOST_WAITING:
            raise NoAnswer("too many questions wait")
        coming: Deferred[None] = Deferred(lambda one: self._coming.remove(one))
        self._coming.append(coming)
        try:
            await coming.addTimeout(EGRESS_WITHIN, self._clock)
        except (TimeoutError, CancelledError) as error:
            raise NoAnswer("the process of the handlers is not there") from error

    def _failed(self, name: str, record: Record, reason: str) -> None:
        record.failed += 1
        record.failures += 1
        record.reason = reason
        if record.failures >= FAILURES:
            record.off_until = self._clock.seconds() + OFF
            self._log.warn(
                "egress: {name} is left alone for {seconds:g} s: {reason}", name=name, seconds=OFF, reason=reason
            )
