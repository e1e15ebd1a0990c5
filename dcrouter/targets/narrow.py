"""Which connections and requests a target is for: its own `match`."""

from __future__ import annotations

import time

from dcrouter.config.paths import readings
from dcrouter.config.targets import TargetMatch
from dcrouter.facts import ConnectionFacts
from dcrouter.match.addresses import Networks
from dcrouter.match.requests import RequestConditions
from dcrouter.match.times import Times
from dcrouter.wire.http1.head import RequestHead


class TargetConditions:
    """One `match`, ready to be asked. A path that can be read in several ways must fit in each of them."""

    __slots__ = ("_clients", "_path", "_request", "_times")

    def __init__(self, match: TargetMatch) -> None:
        self._clients = None if match.client_ips is None else Networks(match.client_ips)
        self._times = None if match.time is None else Times(match.time)
        self._path = match.path is not None
        self._request: RequestConditions | None = None
        if match.path is not None or match.methods is not None or match.headers is not None:
            self._request = RequestConditions(path=match.path, methods=match.methods, headers=match.headers)

    def hold(self, facts: ConnectionFacts, head: RequestHead | None) -> bool:
        """`head`: of the request; None where there is none, and then nothing that asks for one holds."""
        return (
            (self._clients is None or self._clients.covers(facts.peer[0]))
            and (self._times is None or self._times.hold(time.time()))
            and (self._request is None or (head is not None and self._fits(self._request, head)))
        )

    def _fits(self, request: RequestConditions, head: RequestHead) -> bool:
        paths = readings(head.path) if self._path else (None,)
        return all(request.hold(head, path) for path in paths)
