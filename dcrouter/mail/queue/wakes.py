"""Mail that waits for a next hop that is down: whose it is, and how it is woken when that hop is back, a few at a time.

What is known here is memory, and bounded: what is not, waits for its time, as everything does after a start.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, takewhile

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dcrouter.mail.queue.store import Key
from dcrouter.mail.queue.waits import RATE

PACE = 250
"""Recipients a second for each next hop: one that has just come back is not run over."""
TICK = 1.0

MOST = 200_000
"""Recipients that are remembered."""

JUST_NOW = 5.0
"""Seconds: who is deferred so soon after a wake may have begun to wait before it, while that was being written. All
that wait are woken once more then, after a TICK.
"""
MOST_WOKEN = 1000

FEW = 25
PART = 10
"""A next hop that fails so many of those that are woken, and one of so many, is down again."""


@define(eq=False)
class _Round:
    """Who waited for one next hop when it came back. `before`: their numbers are lower than that."""

    before: int = 0
    woken: int = 0
    failed: int = 0
    call: IDelayedCall | None = None


class Wakes:
    """`advance` makes recipients due now."""

    def __init__(self, clock: IReactorTime, advance: Callable[[Sequence[Key]], None]) -> None:
        self._clock = clock
        self._advance = advance
        self._of: dict[Key, str] = {}
        self._waiting: dict[str, dict[Key, int]] = {}
        self._number = 0  # of who begins to wait next
        self._rounds: dict[str, _Round] = {}
        self._woken: OrderedDict[str, float] = OrderedDict()
        self._once_more: dict[str, IDelayedCall] = {}

    def __len__(self) -> int:
        return len(self._of)

    def wait(self, key: Key, target: str) -> None:
        """This recipient was deferred by `target`. Where many are, it is not woken for."""
        round = self._rounds.get(target)
        if round is not None and not target.startswith(RATE):
            round.failed += 1
            if round.failed >= FEW and round.failed * PART >= round.woken:
                self._end(target)
        since = self._clock.seconds() - self._woken.pop(target, -JUST_NOW)
        if since < JUST_NOW and target not in self._once_more:
            self._once_more[target] = self._clock.callLater(TICK, self._again, target)
        self.forget((key,))
        if len(self._of) < MOST:
            self._of[key] = target
            self._waiting.setdefault(target, {})[key] = self._number
            self._number += 1

    def forget(self, keys: Iterable[Key]) -> None:
        """These do not wait any more."""
        for key in keys:
            target = self._of.pop(key, None)
            if target is not None:
                waiting = self._waiting[target]
                del waiting[key]
                if not waiting:
                    del self._waiting[target]

    def wake(self, target: str) -> None:
        """It is up: those that wait for it now are due, PACE of them at once, then as many in each second.

        Of a rate: it has changed; so all of them are due, also if many must wait again.
        """
        if not target.startswith(RATE):
            self._woken[target] = self._clock.seconds()
            if len(self._woken) > MOST_WOKEN:
                self._woken.popitem(last=False)
        self._wake(target)

    def stop(self) -> None:
        for target in list(self._rounds):
            self._end(target)
        for call in self._once_more.values():
            call.cancel()
        self._once_more.clear()

    def _wake(self, target: str) -> None:
        if target not in self._waiting:
            return
        round = self._rounds.get(target)
        if round is None:
            round = self._rounds[target] = _Round()
        round.before = self._number
        if round.call is None:
            self._next(target)

    def _again(self, target: str) -> None:
        del self._once_more[target]
        self._wake(target)

    def _next(self, target: str) -> None:
        round = self._rounds[target]
        waiting = takewhile(lambda one: one[1] < round.before, self._waiting.get(target, {}).items())
        keys = [key for key, _ in islice(waiting, PACE)]
        if not keys:
            del self._rounds[target]
            return
        self.forget(keys)
        round.woken += len(keys)
        round.call = self._clock.callLater(TICK, self._next, target)
        self._advance(keys)

    def _end(self, target: str) -> None:
        call = self._rounds.pop(target).call
        if call is not None:
            call.cancel()
