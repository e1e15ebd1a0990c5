"""What is not to be as usual for a while: mail that stands still, goes slowly, fails, or avoids a source.

A pause is of something with a name: `all`, `zone premium`, `domain example.net`, `source 203.0.113.5`, and what gates
are called: `provider google`, `host mx1.example.org:25`. An operator orders it, a remote reply does (on_reply), or a
source that cannot be bound. It has a reason, and an end or none; it can be lifted. All of them outlive a restart: they
are in a file that is written whole, a moment after a change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.config.rates import Rate
from dcrouter.durable import write_whole
from dcrouter.mail.queue.waits import PAUSE, paused

FILE = "pauses.json"
WRITE_AFTER = 0.2
"""Seconds in which changes gather."""
AGAIN_AFTER = 30.0
MOST = 10_000
"""Pauses; of those that nobody ordered, the one that would end first makes room."""
LONGEST_SLEEP = 600.0
"""Seconds; a clock that was set is noticed by then."""
DAY = 86_400.0
LONGEST_REASON = 500
ALL = "all"

Effect = Literal["pause", "slow_down", "bounce", "rotate"]
"""Mail stands still; goes at a rate; fails; leaves from another source (of which the pause is)."""
By = Literal["operator", "on_reply", "bind"]
InThread = Callable[..., Deferred[Any]]


@frozen(kw_only=True)
class Pause:
    """`what`: its name. `since`, `until`: UTC epoch seconds; None: until it is lifted. `rate`: of `slow_down`."""

    what: str
    effect: Effect = "pause"
    reason: str = ""
    since: float
    until: float | None = None
    by: By = "operator"
    rate: Rate | None = None

    def __str__(self) -> str:
        """What is told of mail that it stops."""
        return paused(self.what, self.reason)

    @property
    def target(self) -> str:
        """What mail that waits for its end waits for, as in `Postponed`."""
        return f"{PAUSE}{self.what}"

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        rate = (
            {"count": self.rate.rate[0], "seconds": self.rate.rate[1], "burst": self.rate.burst} if self.rate else None
        )
        return {
            "what": self.what,
            "effect": self.effect,
            "reason": self.reason,
            "since": self.since,
            "until": self.until,
            "by": self.by,
            "rate": rate,
        }


class Pauses:
    """Those of one mail process. `now`: UTC epoch seconds. `began` and `ended` hear of each."""

    _log = Logger()

    def __init__(self, directory: Path, clock: IReactorTime, now: Callable[[], float], in_thread: InThread) -> None:
        self.began: Callable[[Pause], None] = lambda pause: None
        self.ended: Callable[[Pause], None] = lambda pause: None
        self._path = directory / FILE
        self._clock = clock
        self._now = now
        self._in_thread = in_thread
        self._pauses: dict[tuple[str, Effect], Pause] = {}
        self._timer: IDelayedCall | None = None
        self._writing: IDelayedCall | None = None
        self._closed = False

    def open(self) -> None:
        """Reads what an earlier run left; blocks. A file that cannot be read is told of, and begun anew."""
        try:
            found = [_from_plain(one) for one in json.loads(self._path.read_bytes())["pauses"]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._log.error(
                "{path} cannot be read, nothing is paused: {reason}", path=str(self._path), reason=str(error)
            )
            return
        for pause in found:
            if pause.since > self._now() + DAY:  # the clock was ahead then
                pause = _moved(pause, self._now() - pause.since)
            self._pauses[pause.what, pause.effect] = pause
            if self._holds(pause):
                self.began(pause)
        self._look()  # what has ended meanwhile is told of, too

    def close(self) -> None:
        """Makes durable what is not yet; blocks."""
        self._closed = True
        for call in (self._timer, self._writing):
            if call is not None and call.active():
                call.cancel()
        if self._writing is not None:
            try:
                write_whole(self._path, self._text(), 0o600)
            except OSError as error:
                self._log.error("{path} cannot be written: {reason}", path=str(self._path), reason=str(error))

    def __len__(self) -> int:
        return len(self._pauses)

    def all(self) -> list[Pause]:
        """In the order in which they began."""
        return [pause for pause in self._pauses.values() if self._holds(pause)]

    def get(self, what: str, effect: Effect) -> Pause | None:
        """The one that holds now."""
        if not self._pauses:
            return None
        pause = self._pauses.get((what, effect))
        return pause if pause is not None and self._holds(pause) else None

    def first(self, names: Iterable[str], effect: Effect = "pause") -> Pause | None:
        """The first that holds, of things with these names."""
        if not self._pauses:
            return None
        return next((found for name in names if (found := self.get(name, effect)) is not None), None)

    def add(self, pause: Pause) -> None:
        """From now on; instead of another one with the same effect on the same thing."""
        pause = evolve(pause, reason=pause.reason[:LONGEST_REASON])
        self._pauses.pop((pause.what, pause.effect), None)
        if len(self._pauses) >= MOST:
            self._make_room()
        self._pauses[pause.what, pause.effect] = pause
        log = self._log.info if pause.by == "operator" else self._log.warn
        log(
            "{what}: {effect} {end} ({by}){colon}{reason}",
            what=pause.what,
            effect=pause.effect,
            end="until it is resumed"
            if pause.until is None
            else f"until {datetime.fromtimestamp(pause.until, UTC):%Y-%m-%d %H:%M:%S} UTC",
            until=None if pause.until is None else round(pause.until, 3),
            colon=": " if pause.reason else "",
            by=pause.by,
            reason=pause.reason,
        )
        self.began(pause)
        self._arm()
        self._write_soon()

    def lift(self, what: str) -> list[Pause]:
        """All that there is of this thing, whatever it does; what was lifted."""
        found = [pause for (name, _), pause in self._pauses.items() if name == what]
        self._end(found)
        return found

    def clock_set(self, seconds: float) -> None:
        """By so many: what is to last for a while does. What an operator has ordered ends when he said."""
        self._pauses = {key: _moved(pause, seconds) for key, pause in self._pauses.items()}
        self._look()
        self._write_soon()

    def remaining(self, pause: Pause) -> float | None:
        """Seconds until its end."""
        return None if pause.until is None else max(pause.until - self._now(), 0.0)

    def _holds(self, pause: Pause) -> bool:
        return pause.until is None or pause.until > self._now()

    def _end(self, pauses: Iterable[Pause]) -> None:
        pauses = list(pauses)
        for pause in pauses:
            del self._pauses[pause.what, pause.effect]
        for pause in pauses:
            self._log.info("{what}: {effect} has ended", what=pause.what, effect=pause.effect)
            self.ended(pause)
        if pauses:
            self._write_soon()

    def _make_room(self) -> None:
        ours = [pause for pause in self._pauses.values() if pause.by != "operator"] or list(self._pauses.values())
        self._end([min(ours, key=lambda pause: pause.until if pause.until is not None else float("inf"))])

    # ------------------------------------------------------------------ time

    def _arm(self) -> None:
        ends = [pause.until for pause in self._pauses.values() if pause.until is not None]
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if ends and not self._closed:
            wait = min(max(min(ends) - self._now(), 0.0), LONGEST_SLEEP)
            self._timer = self._clock.callLater(wait, self._look)

    def _look(self) -> None:
        self._end([pause for pause in self._pauses.values() if not self._holds(pause)])
        self._arm()

    # ------------------------------------------------------------------ the file

    def _write_soon(self) -> None:
        if self._writing is None and not self._closed:
            self._writing = self._clock.callLater(WRITE_AFTER, self._write)

    def _write(self) -> None:
        """`_writing` stays until it is written, so that `close` knows."""
        text = self._text()
        self._in_thread(write_whole, self._path, text, 0o600).addCallbacks(
            self._written, self._unwritten, callbackArgs=(text,)
        )

    def _written(self, _: object, text: bytes) -> None:
        self._writing = None
        if self._text() != text:
            self._write_soon()

    def _unwritten(self, failure: Failure) -> None:
        reason = failure.getErrorMessage()
        self._log.error("{path} cannot be written: {reason}", path=str(self._path), reason=reason)
        self._writing = None
        if not self._closed:
            self._writing = self._clock.callLater(AGAIN_AFTER, self._write)

    def _text(self) -> bytes:
        return json.dumps({"version": 1, "pauses": [pause.plain() for pause in self._pauses.values()]}).encode()


def _moved(pause: Pause, seconds: float) -> Pause:
    if pause.by == "operator" or pause.until is None:
        return pause
    return evolve(pause, since=pause.since + seconds, until=pause.until + seconds)


def _from_plain(plain: dict[str, Any]) -> Pause:
    rate = plain["rate"]
    return Pause(
        what=str(plain["what"]),
        effect=plain["effect"],
        reason=str(plain["reason"]),
        since=float(plain["since"]),
        until=None if plain["until"] is None else float(plain["until"]),
        by=plain["by"],
        rate=None if rate is None else Rate(rate=(int(rate["count"]), float(rate["seconds"])), burst=rate["burst"]),
    )
