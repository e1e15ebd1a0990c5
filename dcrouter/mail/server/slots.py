"""How many sessions there may be, in all and on each port, and who goes when there are too many.

The oldest session that has not said EHLO makes room (421): whoever means mail has said it within a moment, and a flood
that says nothing, or nonsense, turns over by itself. Where all have said it, the newcomer is turned away.

There is a bound in all whether or not one is configured: descriptors and memory for more would not be there.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from typing import Protocol

from dcrouter.config.effective import mail_route_name
from dcrouter.config.mail import Email

OTHERS = 1024
"""Descriptors that are kept for deliveries, files and channels; as the edge counts them (proxy/edge.py)."""
SHARE = 0.875
"""Of what the edge would hand over: room is made here before it stops there."""
SESSION = 128 * 1024
"""Octets of memory that a session may come to need: TLS, buffers, the header of a message."""
MEMORY_SHARE = 0.5
"""Of all memory, for sessions."""
EDGE_RESERVED = 256
"""Descriptors that an edge keeps besides those of connections, of which each needs two where they are relayed."""


class Session(Protocol):
    """Who has a slot."""

    @property
    def port(self) -> str | None:
        """The name of its route."""

    def shed(self) -> None:
        """It ends now, with 421."""


class _Bound:
    """`silent`: those who have not said EHLO, the oldest first."""

    __slots__ = ("limit", "silent", "taken")

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.taken = 0
        self.silent: dict[Session, None] = {}

    @property
    def full(self) -> bool:
        return self.limit is not None and self.taken >= self.limit


class Slots:
    """`most`: in all, whatever is configured. `shed`, `turned_away`: sessions since the start."""

    def __init__(self, email: Email, most: int) -> None:
        self.shed = 0
        self.turned_away = 0
        self._most = most
        self._all = _Bound(most)
        self._ports: dict[str | None, _Bound] = {}
        self._inside: set[Session] = set()
        self.reload(email)

    def reload(self, email: Email) -> None:
        """Other limits, for those who come."""
        self._all.limit = min(self._most, email.security.max_connections or self._most)
        self._limits: dict[str | None, int | None] = {
            mail_route_name(port): port.max_connections for port in email.ports
        }
        for name, bound in self._ports.items():
            bound.limit = self._limits.get(name)

    def enter(self, session: Session) -> bool:
        """Whether it may stay; somebody else may have had to go for it."""
        bounds = (self._all, self._of(session.port))
        full = [bound for bound in bounds if bound.full]
        if full and not self._make_room(full):
            self.turned_away += 1
            return False
        for bound in bounds:
            bound.taken += 1
            bound.silent[session] = None
        self._inside.add(session)
        return True

    def _make_room(self, bounds: Sequence[_Bound]) -> bool:
        if not all(bound.silent for bound in bounds):
            return False
        for bound in bounds:
            if bound.full:  # who went for the one before may have been of this one, too
                victim = next(iter(bound.silent))
                self.leave(victim)
                self.shed += 1
                victim.shed()
        return True

    def spoke(self, session: Session) -> None:
        """It has said EHLO, and stays as long as it likes."""
        self._all.silent.pop(session, None)
        self._of(session.port).silent.pop(session, None)

    def leave(self, session: Session) -> None:
        """It has ended, or been told to; a second time means nothing."""
        if session not in self._inside:
            return
        self._inside.discard(session)
        self.spoke(session)
        self._all.taken -= 1
        self._of(session.port).taken -= 1

    def status(self) -> dict[str, int]:
        """JSON-ready."""
        return {
            "slots": self._all.limit or self._most,
            "silent": len(self._all.silent),
            "shed": self.shed,
            "turned_away": self.turned_away,
        }

    def _of(self, port: str | None) -> _Bound:
        found = self._ports.get(port)
        if found is None:
            found = self._ports[port] = _Bound(self._limits.get(port))
        return found


def room_for_sessions(memory: int, *, apart: bool) -> int:
    """As many as this process can have. `memory`: octets of the whole host. `apart`: they come from an edge that is a
    service of its own, and cost two descriptors each there; its limit of open files is taken to be like ours.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        files = os.sysconf("SC_OPEN_MAX")
    most = max(files - OTHERS, files // 4)
    if apart:
        most = min(most, (files - EDGE_RESERVED) // 2)
    return max(int(min(most * SHARE, memory * MEMORY_SHARE / SESSION)), 16)
