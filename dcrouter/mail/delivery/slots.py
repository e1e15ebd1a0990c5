"""Slots for connections to next hops, all together: who finds none waits in turn, or gets that of an idle one."""

from __future__ import annotations

from typing import Protocol as Shape

MAX_CONNECTIONS = 1000
"""To all next hops at once; each is a descriptor, and a session for somebody else."""


class Guest(Shape):
    """One next hop."""

    def open_again(self) -> None:
        """There may be room now: to be taken, or not."""

    def spare(self) -> bool:
        """Ends an idle connection, if it has one; its room is given back when it has ended."""


class Slots:
    """`size`: how many connections there may be."""

    def __init__(self, size: int = MAX_CONNECTIONS) -> None:
        self._free = size
        self._guests: dict[Guest, int] = {}
        self._waiting: dict[Guest, None] = {}

    def take(self, guest: Guest) -> bool:
        """Whether there is room for one more; if not, `open_again` is called, each guest in its turn."""
        if self._free:
            self._free -= 1
            self._guests[guest] = self._guests.get(guest, 0) + 1
            self._waiting.pop(guest, None)
            return True
        if guest not in self._waiting:
            self._waiting[guest] = None
            for other in self._guests:
                if other.spare():
                    break
        return False

    def give(self, guest: Guest) -> None:
        """A connection of `guest` has ended, or was not made."""
        self._free += 1
        self._guests[guest] -= 1
        if not self._guests[guest]:
            del self._guests[guest]
        while self._waiting and self._free:
            following = next(iter(self._waiting))
            del self._waiting[following]
            following.open_again()

    def leave(self, guest: Guest) -> None:
        """It wants no more."""
        self._waiting.pop(guest, None)
