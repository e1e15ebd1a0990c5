"""What is written to the queue's database at once: puts, or settles, never both."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred

from dcrouter.mail.queue.stores.orders import Advance, Order, Release, Reroute, Shift

AnyOrder = Order | Release | Reroute | Advance | Shift


@define(eq=False)
class Puts:
    """Messages of one commit, as flat rows of `arrival`, and who waits."""

    arrivals: list[Any] = field(factory=list)
    waiters: list[Deferred[None]] = field(factory=list)
    octets: int = 0


@define(eq=False)
class Settles:
    """What became of recipients, of one commit.

    `done`: ids of messages that have nobody left. `gone`: [message, number] delivered, of messages that may have
    others. `changed`: [message, *Change]. `spooled`: files to remove once this is durable, with the id of their
    message; they stay where a recipient does. `orders`: of the operator, of a next hop or of rules that are back, each
    with how many of `changed` came before it. `notices`: messages that tell of all this, as flat rows of `arrival`.
    """

    done: list[int] = field(factory=list)
    gone: list[list[int]] = field(factory=list)
    changed: list[list[Any]] = field(factory=list)
    spooled: list[tuple[int, Path]] = field(factory=list)
    orders: list[tuple[int, AnyOrder]] = field(factory=list)
    notices: list[Any] = field(factory=list)
    waiters: list[Deferred[None]] = field(factory=list)
    since: float = field(factory=monotonic)

    def __len__(self) -> int:
        return len(self.waiters)

    def order(self, what: AnyOrder) -> None:
        """What comes later has the last word."""
        self.orders.append((len(self.changed), what))

    @property
    def may_be_forgotten(self) -> bool:
        """By a power failure: it would be done again, and nothing else."""
        return not (self.spooled or self.orders or self.notices)
