"""Questions of other processes that callables of the operator's answer: the edge's, which target a connection goes to,
and the mail half's (egress.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.config.rates import Rate
from dcrouter.interfaces import Facts
from dcrouter.net.limits import Buckets
from dcrouter.wire.hostport import hostport

Reply = Callable[[dict[str, Any]], None]
"""Gets the answer, or `error`, with the question's id."""

MOST_PLACES = 100
NEWS = Rate(rate=(1, 10.0))
"""How often the log has a traceback of the same callable."""
_LONGEST = 200
"""Characters of an error that the other process is told."""


class Selects:
    """Of one kind. `asked` makes of a question's fields what a callable gets, `told` of what it gives the answer (or
    raises); `within`: seconds that it has.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        within: float,
        asked: Callable[[Mapping[str, Any]], Any],
        told: Callable[[Any], dict[str, Any]],
    ) -> None:
        self._reactor = reactor
        self._within = within
        self._asked = asked
        self._told = told
        self._news = Buckets(NEWS, reactor.seconds)

    def answer(self, select: Callable[[Any], Any] | None, fields: Mapping[str, Any], reply: Reply) -> None:
        """Ask it, and reply in time or not at all. A question that nobody waits for any more is not asked."""
        if time.monotonic() - fields["asked"] > self._within:
            return
        if select is None:
            reply({"id": fields["id"], "error": "nobody of that name is there"})
            return
        asked: Deferred[Any] = maybeDeferred(select, self._asked(fields))
        if not asked.called:
            asked.addTimeout(self._within, self._reactor)
        asked.addCallback(lambda choice: reply({"id": fields["id"], **self._told(choice)}))
        asked.addErrback(self._failed, fields, reply)

    def _failed(self, failure: Failure, fields: Mapping[str, Any], reply: Reply) -> None:
        name = fields["name"]
        if self._news.take(name):
            self.log.failure("select {name} has failed", failure, name=name)
        text = f"{type(failure.value).__name__}: {failure.getErrorMessage()}"
        reply({"id": fields["id"], "error": text[:_LONGEST]})


def facts_of(fields: Mapping[str, Any]) -> Facts:
    """What the edge asks about."""
    return Facts.of(fields["facts"], fields["request"])


def told_places(choice: Any) -> dict[str, Any]:
    """What the edge is told."""
    return {"places": places_of(choice)}


def places_of(choice: Any) -> list[str] | None:
    """A Choice as text; TypeError and ValueError where it is none."""
    if choice is None:
        return None
    several = not isinstance(choice, str) and not _is_pair(choice)
    if several and not isinstance(choice, Sequence):
        raise TypeError(f"{choice!r} is no target: 'host:port', ('host', port), a list of them, or None")
    places = [_place(one) for one in choice] if several else [_place(choice)]
    if not 0 < len(places) <= MOST_PLACES:
        raise ValueError(f"a list of {len(places)} targets")
    return places


def _place(one: Any) -> str:
    if isinstance(one, str):
        return one
    if _is_pair(one):
        return hostport(*one)
    raise TypeError(f"{one!r} is no target: 'host:port' or ('host', port)")


def _is_pair(value: Any) -> bool:
    match value:
        case (str(), int(port)):
            return not isinstance(port, bool)
    return False
