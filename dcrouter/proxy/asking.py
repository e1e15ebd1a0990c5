"""Questions to the process of the handlers, which are answered soon or not at all: nobody waits longer than WITHIN.

The waiting ones are bounded, and so is what lies in the channel: a process that hangs is not told more and more.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dcrouter.interfaces import SELECT_WITHIN
from dcrouter.net.channel import Channel
from dcrouter.net.engine import WAIT, Task

MOST_WAITING = 1000
"""Questions at a time."""
MOST_UNSENT = 64
"""Messages that the process has not taken from the channel yet."""


class Failed(Exception):
    """There is no good answer. `slow`: or none in time."""

    def __init__(self, reason: str, *, slow: bool = False) -> None:
        super().__init__(reason)
        self.slow = slow


class Away(Exception):
    """There is nobody to ask."""


class _Waiting:
    __slots__ = ("answer", "deadline", "error", "task")

    def __init__(self, task: Task, deadline: float) -> None:
        self.task = task
        self.deadline = deadline
        self.answer: dict[str, Any] | None = None
        self.error: Exception | None = None


class Asking:
    """Of one edge. `channel`: to the process, None while it is not there; `reactor` must be set before the first.

    `turns`: how often its code may have become another: it is new, or has reloaded.
    """

    log = Logger()

    def __init__(self) -> None:
        self.reactor: Any = None
        self.channel: Channel | None = None
        self.turns = 0
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()
        self._number = 0
        self._sweep: IDelayedCall | None = None

    def meet(self, channel: Channel | None) -> None:
        """The process is there, with its code as it is now; or (None) gone, and with it every answer."""
        self.channel = channel
        self.turns += channel is not None
        for waiting in list(self._waiting.values()) if channel is None else ():
            waiting.error = Away()
            self._wake(waiting)

    async def ask(self, task: Task, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        """The answer; Failed or Away where there is none."""
        channel = self.channel
        if channel is None:
            raise Away
        if len(self._waiting) >= MOST_WAITING or channel.waiting > MOST_UNSENT:
            raise Failed("too many questions wait", slow=True)
        self._number += 1
        number = self._number
        waiting = self._waiting[number] = _Waiting(task, self.reactor.seconds() + SELECT_WITHIN)
        try:
            channel.send(kind, {**fields, "id": number})
            if self._sweep is None:
                self._sweep = self.reactor.callLater(SELECT_WITHIN, self._look)
            while waiting.answer is None and waiting.error is None:
                await WAIT
        finally:
            self._waiting.pop(number, None)
        if waiting.error is not None:
            raise waiting.error
        assert waiting.answer is not None
        return waiting.answer

    def answered(self, fields: dict[str, Any]) -> None:
        """The process has said something; what comes too late is nobody's."""
        waiting = self._waiting.get(fields["id"])
        if waiting is not None:
            waiting.answer = fields
            self._wake(waiting)

    def stop(self) -> None:
        """Nobody asks any more."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _look(self) -> None:
        """End the waiting of those whose time is over; they stand in the order in which they have asked."""
        self._sweep = None
        now = self.reactor.seconds()
        for waiting in list(self._waiting.values()):
            if waiting.deadline > now:
                self._sweep = self.reactor.callLater(waiting.deadline - now, self._look)
                break
            waiting.error = Failed(f"no answer within {SELECT_WITHIN * 1000:g} ms", slow=True)
            self._wake(waiting)

    def _wake(self, waiting: _Waiting) -> None:
        engine = waiting.task.engine
        engine.drive(waiting.task, None)
        engine.settle()
