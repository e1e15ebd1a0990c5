"""What admission says of senders and recipients, and what it remembers of a transaction meanwhile."""

from __future__ import annotations

from typing import NamedTuple

from attrs import define, field

from dcrouter.mail.server.choices import Choices
from dcrouter.mail.server.guards.limits import Tally


class Accepted(NamedTuple):
    """A recipient: `address`, by `rule`. `choices`: where the message decides, else (); then `rule` is the one that it
    meets if no condition holds, or else the first that would take it.
    """

    address: str
    rule: str
    choices: Choices = ()


class Admitted(NamedTuple):
    """`reply` answers MAIL or RCPT. `recipient` None: there is none, and where it was refused `why` is for the log."""

    reply: bytes
    recipient: Accepted | None = None
    why: str = ""

    @property
    def rule(self) -> str | None:
        """By which the recipient was taken."""
        return self.recipient.rule if self.recipient is not None else None


@define(eq=False)
class Course:
    """A transaction as admission sees it. `taken`: of each rule, how many recipients it has taken; `first`: the first
    recipient. `tally`: what the guards count of it, None where there are none.
    """

    sender: str
    tally: Tally | None = None
    taken: dict[str, int] = field(factory=dict)
    first: Accepted | None = None
