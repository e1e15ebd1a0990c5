"""The limits that one next hop has to pass: all its gates together."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from math import inf
from typing import NamedTuple

from dcrouter.mail.shaping.gate import Gate, Guest

TURN = 10
"""Messages on one connection while others wait for its slot."""


class Later(NamedTuple):
    """A message is to come again after so many seconds, because of the gate of this name."""

    seconds: float
    name: str


class Gates:
    """All that one next hop has to pass, for connections and for messages."""

    def __init__(self, gates: Iterable[Gate]) -> None:
        self.all = tuple(gates)

    def enough(self, carried: int, seconds: float) -> bool:
        """Whether a connection that has carried so many messages, for so long, is to end: so it is to, or others wait
        for its slot, or there may be fewer now. One at least it carries, however long the server took to greet.
        """
        for gate in self.all:
            if carried >= gate.messages or (carried and seconds >= gate.seconds) or gate.used > gate.size:
                return True
            if carried >= TURN and gate.wanted:
                return True
        return False

    @property
    def quiet(self) -> bool:
        return all(gate.quiet for gate in self.all)

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a slot that an idle connection has."""
        return any(gate.wanted for gate in self.all)

    def take(self, guest: Guest) -> bool:
        """Whether there is room for one more connection; if not, `open_again` is called, each guest in its turn."""
        for gate in self.all:
            if gate.full:
                gate.line_up(guest)
                return False
        for gate in self.all:
            gate.take(guest)
        return True

    def give(self, guest: Guest) -> None:
        """A connection of `guest` has ended, or was not made."""
        for gate in self.all:
            gate.give(guest)
        for gate in self.all:
            gate.admit()

    def leave(self, guest: Guest) -> None:
        """It wants no more."""
        for gate in self.all:
            gate.leave(guest)

    def free(self) -> float:
        """How many messages may leave now."""
        least = inf
        for gate in self.all:
            if gate.paced:
                least = min(least, gate.free())
        return least

    def spend(self) -> None:
        """One leaves."""
        for gate in self.all:
            if gate.paced:
                gate.spend()

    def line_up(self, guest: Guest) -> None:
        """`token` is called when a message may leave."""
        max(self.all, key=lambda gate: gate.wait()).line_up_for_token(guest)

    def book(self, ticket: Hashable) -> Later | None:
        """Whether a message that comes now is to come later, and when."""
        found: tuple[float, Gate] | None = None
        for gate in self.all:
            if gate.paced:
                seconds = gate.booking(ticket)
                if seconds and (found is None or seconds > found[0]):
                    found = (seconds, gate)
        if found is None:
            return None
        seconds, gate = found
        gate.book(ticket, seconds)
        return Later(seconds, gate.name)

    def came(self) -> None:
        """A message more waits in memory."""
        for gate in self.all:
            gate.came(1)

    def left(self, count: int = 1) -> None:
        """Messages do not wait any more."""
        for gate in self.all if count else ():
            gate.left(count)

    def crowded(self) -> Gate | None:
        """One behind which too many wait."""
        return next((gate for gate in self.all if gate.crowded), None)
