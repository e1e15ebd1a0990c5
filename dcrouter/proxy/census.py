"""The connections of an edge, one by one: for an operator who looks at them, or ends one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from dcrouter.errors import Refused
from dcrouter.proxy.session import Session


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
    facts = session.facts
    forth, back = session.moving or (None, None)
    return {
        "session": facts.session,
        "route": facts.route,
        "peer": facts.peer,
        "local": facts.local,
        "sni": facts.sni,
        "target": session.target,
        "age": round(now - facts.accepted, 3),
        "bytes_in": session.bytes_in + (forth.count if forth is not None else 0),
        "bytes_out": session.bytes_out + (back.count if back is not None else 0),
        "phase": session.phase,
    }


def _number(session: str) -> int:
    """Ids are a start of the edge and a number, `18f3a-1c`; -1 where it is none of ours."""
    try:
        return int(session.rpartition("-")[2], 16)
    except ValueError:
        return -1
