"""Mail that waits for a next hop that is down: whose it is, and how it is woken when that hop is back, a few at a time.

What is known here is memory, and bounded: what is not, waits for its time, as everything does after a start.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dcrouter.mail.queue.store import Key

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
RATE = "rate of "
"""How that begins which mail waits for whose turn a rate decides."""


class Wakes:
    """`advance` makes recipients due now."""

    def __init__(self, clock: IReactorTime, advance: Callable[[Sequence[Key]], None]) -> None:
        self._clock = clock
        self._advance = advance
        self._of: dict[Key, str] = {}
        self._waiting: dict[str, dict[Key, None]] = {}
        self._waking: dict[str, IDelayedCall] = {}
        self._woken: OrderedDict[str, float] = OrderedDict()
        self._once_more: dict[str, IDelayedCall] = {}

    def __len__(self) -> int:
        return len(self._of)

    def wait(self, key: Key, target: str) -> None:
        """This recipient was deferred by `target`, which is therefore not woken for."""
        self._end(target)
        since = self._clock.seconds() - self._woken.pop(target, -JUST_NOW)
        if since < JUST_NOW and target not in self._once_more:
            self._once_more[target] = self._clock.callLater(TICK, self._again, target)
        self.forget((key,))
        if len(self._of) < MOST:
            self._of[key] = target
            self._waiting.setdefault(target, {})[key] = None

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
        """It is up: those that wait for it are due, PACE of them at once, then as many in each second.

        Of a rate: it has changed; so all of them are due, also if the first must wait again.
        """
        if target.startswith(RATE):
            self._wake(self._apart(target))
            return
        self._woken[target] = self._clock.seconds()
        if len(self._woken) > MOST_WOKEN:
            self._woken.popitem(last=False)
        self._wake(target)

    def stop(self) -> None:
        for calls in (self._waking, self._once_more):
            for call in calls.values():
                call.cancel()
            calls.clear()

    def _wake(self, target: str) -> None:
        if target in self._waiting and target not in self._waking:
            self._next(target)

    def _apart(self, target: str) -> str:
        """Who waits now, from those who begin to."""
        apart = f"{target}, as it was"
        waiting = self._waiting.pop(target, None)
        if waiting:
            self._of.update(dict.fromkeys(waiting, apart))
            self._waiting.setdefault(apart, {}).update(waiting)
        return apart

    def _again(self, target: str) -> None:
        del self._once_more[target]
        self._wake(target)

    def _next(self, target: str) -> None:
        self._waking.pop(target, None)
        keys = list(islice(self._waiting.get(target, ()), PACE))
        if not keys:
            return
        self.forget(keys)
        self._waking[target] = self._clock.callLater(TICK, self._next, target)
        self._advance(keys)

    def _end(self, target: str) -> None:
        call = self._waking.pop(target, None)
        if call is not None:
            call.cancel()
