"""Children that talk to each other without the parent: each pair gets a socketpair, and another when that breaks."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from dcrouter.control.child import Child

REJOIN = 0.5
"""Seconds before two living children whose socketpair broke (descriptors ran out) get a new one."""

JOINED = (("edge", "mail"), ("edge", "handlers"), ("mail", "handlers"))


class Joining:
    """`child_of`: the process that a role has now, or None."""

    def __init__(self, reactor: Any, child_of: Callable[[str], Child | None]) -> None:
        self._reactor = reactor
        self._child_of = child_of
        self._soon: dict[tuple[str, str], IDelayedCall] = {}
        self._joined: dict[tuple[str, str], int] = {}
        self.count = 0

    def join(self, role: str) -> None:
        """A fresh process of this role, with all others that it talks to."""
        for pair in JOINED:
            if role in pair:
                self._join(pair)

    def broke(self, join: int) -> None:
        """A socketpair broke. Where one has died its successor joins anew; where both live, they do so soon."""
        for pair, number in self._joined.items():
            if number == join and pair not in self._soon:
                self._soon[pair] = self._reactor.callLater(REJOIN, self._join, pair)

    def stop(self) -> None:
        """Nobody is joined anew."""
        for call in self._soon.values():
            if call.active():
                call.cancel()

    def _join(self, pair: tuple[str, str]) -> None:
        soon = self._soon.pop(pair, None)
        if soon is not None and soon.active():
            soon.cancel()
        children = [child for role in pair if (child := self._child_of(role)) is not None]
        if len(children) < len(pair):
            return
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.count += 1
        self._joined[pair] = self.count
        with one, other:
            for child, end, met in zip(children, (one, other), reversed(pair), strict=True):
                child.send("peer", {"role": met, "join": self.count}, [end.fileno()])
