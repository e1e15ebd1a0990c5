"""What an operator sees of an edge: its connections, one by one, and the counters of its routes, piece by piece.

There may be ten thousand of either, and traffic does not wait for them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from dcrouter.errors import Refused
from dcrouter.proxy.bound import BoundRoute
from dcrouter.proxy.plan import Plan
from dcrouter.proxy.session import Session

ROUTES = 100
"""Told of at once: half a millisecond's work."""
MOST_COUNTED = 10_000
"""Targets whose failures are counted."""


def pieces(plan: Plan, now: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """(`routes` or `targets`, name -> what is counted for it), JSON-ready, ROUTES of them at a time."""
    routes = list(plan.routes)  # which a reload empties
    for start in range(0, len(routes), ROUTES):
        yield "routes", {bound.route.name: _counted(bound) for bound in routes[start : start + ROUTES]}
    for start in range(0, len(routes), ROUTES):
        # No more targets than routes: each belongs to one.
        yield "targets", plan.targets(now, start, start + ROUTES)


def _counted(bound: BoundRoute) -> dict[str, Any]:
    counters = bound.counters
    return {
        "connections": counters.connections,
        "requests": counters.requests,
        "active": bound.admission.present.connections,
        "bytes_in": counters.bytes_in,
        "bytes_out": counters.bytes_out,
        "ends": counters.ends,
        "responses": counters.responses,
        "broken": counters.broken,
    }


def page(sessions: Iterable[Session], after: str | None, most: int) -> dict[str, Any]:
    """At most `most` of them, JSON-ready, in the order in which they began, which is that of `sessions`.

    `after`: the id of the last one of the page before; `next`: what is `after` for the next one, None: there is none.
    """
    begin = _number(after) if after is not None else -1
    found: list[dict[str, Any]] = []
    now = time.time()
    for session in sessions:
        if begin >= 0 and _number(session.facts.session) <= begin:
            continue
        if len(found) == most:
            return {"connections": found, "next": found[-1]["session"]}
        found.append(_shown(session, now))
    return {"connections": found, "next": None}


def kill(sessions: Iterable[Session], session: str) -> int:
    """End that one at once: how many it was."""
    for one in sessions:
        if one.facts.session == session:
            one.task.throw(Refused("ended by the operator"))
            return 1
    return 0


def _shown(session: Session, now: float) -> dict[str, Any]:
    forth, back = session.moving or (None, None)
    return session.facts.shown(
        now,
        target=session.target,
        bytes_in=session.bytes_in + (forth.count if forth is not None else 0),
        bytes_out=session.bytes_out + (back.count if back is not None else 0),
        phase=session.phase,
    )


def _number(session: str) -> int:
    """Ids are a start of the edge and a number, `18f3a-1c`; -1 where it is none of ours."""
    try:
        return int(session.rpartition("-")[2], 16)
    except ValueError:
        return -1


def together(totals: dict[str, Any], found: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """All of it as one value; `found`: pieces."""
    whole: dict[str, Any] = {**totals, "routes": {}, "targets": {}}
    for name, piece in found:
        whole[name].update(piece)
    return whole


def counted(counts: dict[str, int], label: str) -> int:
    """How often `label` was counted, with this time; of MOST_COUNTED different ones."""
    count = counts.get(label, 0) + 1
    if count > 1 or len(counts) < MOST_COUNTED:
        counts[label] = count
    return count
