"""What admission says of senders and recipients, and what it remembers of a transaction meanwhile."""

from __future__ import annotations

from typing import NamedTuple

from attrs import define, field

from dcrouter.mail.server.choices import Choices
from dcrouter.mail.server.guards.limits import Tally


class Accepted(NamedTuple):
    """A recipient: `address`, by `rule`. `choices`: where the message decides, else (); then `rule` is the one that it
    meets if no condition holds, or else the first that would take it. `asked`: the alias that the client has written,
    if it is one.
    """

    address: str
    rule: str
    choices: Choices = ()
    asked: str = ""


class Admitted(NamedTuple):
    """`reply` answers MAIL or RCPT. `recipients`: several where an alias stands for them; none where there is none, and
    where it was refused `why` is for the log.
    """

    reply: bytes
    recipients: tuple[Accepted, ...] = ()
    why: str = ""

    @property
    def rule(self) -> str | None:
        """By which the first recipient was taken."""
        return self.recipients[0].rule if self.recipients else None


@define(eq=False)
class Course:
    """A transaction as admission sees it. `taken`: of each rule, how many recipients it has taken; `count`: how many
    there are; `ends`: what the message may make of the first, None where that is more than `Choices` say. `tally`: what
    the guards count of it, None where there are none.
    """

    sender: str
    tally: Tally | None = None
    taken: dict[str, int] = field(factory=dict)
    count: int = 0
    ends: Choices | None = ()
