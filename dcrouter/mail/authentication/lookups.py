"""Drives what asks DNS (wire/asking) with our resolver, and remembers for a moment what came of it.

Who sends one message mostly sends another: the same question about the same client within REMEMBERED seconds costs
nothing. Every answer comes within WITHIN seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from dns.rdatatype import RdataType
from dns.rdtypes.ANY.PTR import PTR
from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as Late
from twisted.python.failure import Failure

from dcrouter.errors import NoSuchName, Unreachable
from dcrouter.net.dns.message import Answer, text_of
from dcrouter.net.resolver import Resolver
from dcrouter.wire.asking import Asking, Found, Kind, Question

T = TypeVar("T")

WITHIN = 20.0
"""Seconds for one check, RFC 7208 4.6.4; each question in it has `resolver.timeout`."""

REMEMBERED = 2.0
"""Seconds: no longer than the cache believes any answer of DNS."""

MAX_REMEMBERED = 10_000


class Lookups:
    """`clock`: the reactor."""

    def __init__(self, resolver: Resolver, clock: Any) -> None:
        self._resolver = resolver
        self._clock = clock
        self._known: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    def once(self, key: Hashable, make: Callable[[], Asking[T]], late: T) -> Deferred[T]:
        """What a machine returns, or `late` where it takes too long. Never fails, unless it is cancelled.

        `key`: of the machine and all that it was made with.
        """
        known = self._known.get(key)
        now = self._clock.seconds()
        if known is not None and known[0] > now:
            return succeed(known[1])

        def keep(result: T) -> T:
            self._known[key] = (self._clock.seconds() + REMEMBERED, result)
            self._known.move_to_end(key)
            if len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
            return result

        return self.run(make(), late).addCallback(keep)

    def run(self, asking: Asking[T], late: T) -> Deferred[T]:
        """The same without a memory."""
        running = Deferred.fromCoroutine(self._drive(asking))
        if running.called:
            return running
        return running.addTimeout(WITHIN, self._clock).addErrback(_late, late)

    def found(self, question: Question) -> Deferred[Found | None]:
        """One answer, None where DNS has none. Never fails, unless it is cancelled."""
        return self.run(_one(question), None)

    async def _drive(self, asking: Asking[T]) -> T:
        try:
            question = next(asking)
            while True:
                try:
                    found = await self._ask(question)
                except Unreachable as error:
                    question = asking.throw(error)
                else:
                    question = asking.send(found)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _ask(self, question: Question) -> Found:
        try:
            answer = await self._resolver.records(question.name, _TYPES[question.kind])
        except NoSuchName:
            return Found(exists=False)
        return Found(_READ[question.kind](answer))


def _one(question: Question) -> Asking[Found | None]:
    try:
        return (yield question)
    except Unreachable:
        return None


def _late(failure: Failure, late: T) -> T:
    failure.trap(Late)
    return late


def _texts(answer: Answer) -> tuple[str, ...]:
    return answer.texts


def _addresses(answer: Answer) -> tuple[str, ...]:
    return tuple(record.to_text() for record in answer.records)


def _exchangers(answer: Answer) -> tuple[str, ...]:
    return tuple(host for _, host in answer.exchangers)


def _pointers(answer: Answer) -> tuple[str, ...]:
    return tuple(text_of(record.target) for record in answer.of(PTR))


_TYPES: dict[Kind, RdataType] = {
    "A": RdataType.A,
    "AAAA": RdataType.AAAA,
    "MX": RdataType.MX,
    "TXT": RdataType.TXT,
    "PTR": RdataType.PTR,
}
_READ: dict[Kind, Callable[[Answer], tuple[str, ...]]] = {
    "A": _addresses,
    "AAAA": _addresses,
    "MX": _exchangers,
    "TXT": _texts,
    "PTR": _pointers,
}
