"""What has become of the recipients of a message, where the message decides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dcrouter.mail.pipeline.conditions import Content
from dcrouter.mail.server.admitted import Accepted
from dcrouter.mail.server.choices import chosen
from dcrouter.mail.server.denial import Denial


class Ends(NamedTuple):
    """`taken`: with the rules that they have met. `refused`: who is not taken after all. `counted`: rules that asked
    for the message and take some of it.
    """

    taken: list[Accepted]
    refused: list[tuple[Accepted, Denial]]
    counted: set[str]

    @property
    def reply(self) -> bytes:
        """To a message of which all are refused: a temporary refusal where there is one, so that nobody is given up who
        would be taken later.
        """
        replies = [denial.reply for _, denial in self.refused]
        return next((reply for reply in replies if reply.startswith(b"4")), replies[0])


def ended(recipients: Iterable[Accepted], content: Content) -> Ends:
    """At the end of the message."""
    ends = Ends([], [], set())
    for one in recipients:
        if not one.choices:
            ends.taken.append(one)
            continue
        choice = chosen(one.choices, content)
        if choice.rule is None:
            assert choice.denial is not None
            ends.refused.append((one, choice.denial))
            continue
        ends.taken.append(Accepted(one.address, choice.rule))
        if choice.late:
            ends.counted.add(choice.rule)
    return ends
