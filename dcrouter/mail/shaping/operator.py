"""What an operator asks of pauses, and orders: a question in plain values, an answer in plain values.

    {"do": "pauses"}                                              {"pauses": [{"what", "effect", "reason", ...}, ...]}
    {"do": "pause", "what": name, "seconds": n or "1h", "reason": text}     {"paused": {...}}
    {"do": "resume", "what": name, or "all": true}                {"lifted": [{...}, ...]}

Without `seconds` a pause has no end. What cannot be done is `{"error": "...", "status": n}`, with a status of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from dcrouter.config.findings import meant
from dcrouter.config.names import hostname
from dcrouter.config.units import duration, shown
from dcrouter.mail.delivery.exchangers import SMTP_PORT
from dcrouter.mail.shaping.pauses import ALL, LONGEST_REASON, Pause, Pauses

KINDS = ("zone", "domain", "source", "provider", "host")
VERBS = ("pauses", "pause", "resume")

Plain = dict[str, Any]


class PauseOrders:
    """`now`: UTC epoch seconds. `zones`, `providers`, `sources`: those that there are now, by name or address."""

    def __init__(
        self,
        pauses: Pauses,
        now: Callable[[], float],
        zones: Callable[[], Iterable[str]],
        providers: Callable[[], Iterable[str]],
        sources: Callable[[], Iterable[str]],
    ) -> None:
        self._pauses = pauses
        self._now = now
        self._known = {"zone": zones, "provider": providers, "source": sources}

    def ask(self, fields: Mapping[str, Any]) -> Plain:
        """The answer, JSON-ready."""
        try:
            if fields.get("do") == "pauses":
                return {"pauses": [self._plain(pause) for pause in self._pauses.all()]}
            if fields.get("do") == "pause":
                return self._pause(fields)
            return self._resume(fields)
        except ValueError as error:
            return {"error": str(error), "status": 400}

    def _pause(self, fields: Mapping[str, Any]) -> Plain:
        what, now = self._what(fields), self._now()
        seconds = _seconds(fields.get("seconds"))
        reason = fields.get("reason", "")
        if not isinstance(reason, str):
            raise ValueError("reason: text")
        until = None if seconds is None else now + seconds
        pause = Pause(what=what, reason=reason[:LONGEST_REASON], since=round(now, 3), until=until)
        self._pauses.add(pause)
        return {"paused": self._plain(pause)}

    def _resume(self, fields: Mapping[str, Any]) -> Plain:
        if fields.get("all") is True:
            whats = list(dict.fromkeys(pause.what for pause in self._pauses.all()))
        else:
            what = fields.get("what")
            if not isinstance(what, str) or not what:
                raise ValueError("resume what? Name it, or say that all are meant")
            whats = [what if " for " in what else self._normal(what)]
        lifted = [pause for what in whats for pause in self._pauses.lift(what)]
        if not lifted and fields.get("all") is not True:
            return {"error": f"{whats[0]} is not paused", "status": 404}
        return {"lifted": [self._plain(pause) for pause in lifted]}

    def _what(self, fields: Mapping[str, Any]) -> str:
        what = fields.get("what")
        if not isinstance(what, str) or not what:
            raise ValueError(f"pause what? all, or one of {', '.join(KINDS)} with its name")
        what = self._normal(what)
        kind, _, name = what.partition(" ")
        if kind in self._known:
            known = list(self._known[kind]())
            if name not in known:
                raise ValueError(f"there is no {kind} {shown(name)}{meant(name, known)}")
        return what

    def _normal(self, what: str) -> str:
        kind, _, name = what.strip().partition(" ")
        name = name.strip()
        if kind == ALL and not name:
            return ALL
        if kind not in KINDS or not name:
            raise ValueError(f"{shown(what)} is not all, and none of {', '.join(KINDS)} with its name")
        if kind == "domain":
            name = hostname(name)
        elif kind == "source":
            name = str(ip_address(name))
        elif kind == "host":
            name = name.lower() if ":" in name else f"{name.lower()}:{SMTP_PORT}"
        return f"{kind} {name}"

    def _plain(self, pause: Pause) -> Plain:
        remaining = self._pauses.remaining(pause)
        return {**pause.plain(), "seconds": None if remaining is None else round(remaining, 1)}


def _seconds(told: object) -> float | None:
    if told is None:
        return None
    seconds = float(told) if isinstance(told, int | float) and not isinstance(told, bool) else duration(str(told))
    if seconds <= 0:
        raise ValueError("seconds: more than none")
    return seconds
