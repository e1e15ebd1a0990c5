"""What is known of targets beside their configuration: load, failures, health. It outlives the route bound to it.

Kept under the route's name and the target's label, so that a new configuration goes on with what the last one has
learnt. All instants are the engine's monotonic seconds.

1. Active checks: the first one decides; after that it takes `rise` good ones in a row to be up, `fall` bad ones to be
   down.
2. Passive: `failures` failed connections `within` so many seconds eject a target for `eject` seconds.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol, TypeVar

from dcrouter.config.health import Health, Passive

T = TypeVar("T")

LONGEST_REASON = 200
"""Characters of a reason that are kept: some of them come from the other side."""


class Memory(Protocol):
    """Where what is learnt outlives the table that learns it (proxy/state.py)."""

    def keep(self, kind: type[T], *name: str) -> T:
        """The `kind` of that name: the one that is in use, else a new one."""


class TargetState:
    """One target of one route.

    `active`: connections now (of HTTP: requests under way); `connections`, `failed`: since the start. `down`: an active
    check says so; `reason`: why the last check or connection failed, "" where it did not. `since`: of the last change
    between up and down, None before the first check. `current`: its credit in the weighted turn (balance.py).
    """

    __slots__ = (
        "__weakref__",
        "_failures",
        "_run",
        "_watchers",
        "active",
        "connections",
        "current",
        "down",
        "ejected_until",
        "ejections",
        "failed",
        "reason",
        "since",
    )

    def __init__(self) -> None:
        self.active = 0
        self.connections = 0
        self.failed = 0
        self.down = False
        self.reason = ""
        self.since: float | None = None
        self.ejected_until = 0.0
        self.ejections = 0
        self.current = 0
        self._watchers = 0
        self._run = 0  # checks in a row that speak against what holds
        self._failures: deque[float] = deque()

    def enter(self) -> None:
        """A connection was made; one `leave` must follow."""
        self.active += 1
        self.connections += 1

    def leave(self) -> None:
        self.active -= 1

    # Active checks.

    def passed(self, health: Health, now: float) -> bool:
        """A check was good. True: the target has come up by it, or was never checked before."""
        if self.down:
            self._run += 1
        else:
            self._run, self.reason = 0, ""
        if self.since is not None and (not self.down or self._run < health.rise):
            return False
        self.down, self._run, self.since, self.reason = False, 0, now, ""
        self.ejected_until = 0.0
        return True

    def missed(self, health: Health, reason: str, now: float) -> bool:
        """A check was bad. True: the target has gone down by it."""
        self.reason = _short(reason)
        if self.down:
            self._run = 0
            return False
        self._run += 1
        if self.since is not None and self._run < health.fall:
            return False
        self.down, self._run, self.since = True, 0, now
        return True

    def watch(self) -> None:
        """Active checks begin; one `unwatch` must follow."""
        self._watchers += 1

    def unwatch(self) -> None:
        """When nobody checks it any more, whatever checks have said is forgotten."""
        self._watchers -= 1
        if not self._watchers:
            self.down, self._run, self.since = False, 0, None

    # What connections tell.

    def broken(self, passive: Passive | None, reason: str, now: float) -> bool:
        """A connection could not be made, or the target misbehaved on it. True: the target is ejected for it."""
        self.failed += 1
        self.reason = _short(reason)
        if passive is None or now < self.ejected_until:
            return False
        failures = self._failures
        failures.append(now)
        while failures[0] < now - passive.within:
            failures.popleft()
        if len(failures) < passive.failures:
            return False
        failures.clear()
        self.ejected_until = now + passive.eject
        self.ejections += 1
        return True

    def well(self) -> None:
        """It works: failures before count no more, nor does an ejection."""
        self._failures.clear()
        self.ejected_until = 0.0
        self.reason = ""

    def status(self, now: float, *, checked: bool) -> dict[str, Any]:
        """JSON-ready. `checked`: there are active checks. `for`: seconds that it has been so."""
        seconds: float | None = None
        if self.down and checked:
            health, seconds = "down", now - (self.since or now)
        elif now < self.ejected_until:
            health, seconds = "ejected", self.ejected_until - now
        elif checked:
            health = "up" if self.since is not None else "unknown"
            seconds = now - self.since if self.since is not None else None
        else:
            health = "unchecked"
        said: dict[str, Any] = {"health": health}
        if seconds is not None:
            said["left" if health == "ejected" else "for"] = round(seconds, 1)
        if self.reason:
            said["reason"] = self.reason
        said |= {"active": self.active, "connections": self.connections, "failed": self.failed}
        if self.ejections:
            said["ejections"] = self.ejections
        return said


class Turn:
    """Where a balancer stands."""

    __slots__ = ("__weakref__", "next")

    def __init__(self) -> None:
        self.next = 0


def _short(reason: str) -> str:
    return reason if len(reason) <= LONGEST_REASON else reason[:LONGEST_REASON] + "..."
