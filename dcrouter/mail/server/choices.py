"""What may become of a recipient at the end of the message, where rules ask for headers or size.

One reply serves many recipients (RFC 5321 4.2.5): if all are refused it is their refusal; otherwise the message is
taken, and who was refused is told of in a notification. That is for clients that may relay. Of a stranger's message no
recipient is refused alone: one whose rules could decide otherwise than those of the first comes back in a transaction
of its own (`agree`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dcrouter.mail.pipeline.conditions import Content, Late
from dcrouter.mail.server.denial import Denial


class Choice(NamedTuple):
    """One end. It is this one where all of `late` hold and those of none before it do. `rule`: whose recipient it is
    then; None: it is refused, by `denial`.
    """

    late: tuple[Late, ...]
    rule: str | None
    denial: Denial | None = None


Choices = tuple[Choice, ...]
"""In the order of the file; the last one's `late` is empty."""

TAKEN: Choices = (Choice((), ""),)
"""Whatever the message is."""


def chosen(choices: Choices, content: Content) -> Choice:
    """What the message makes of it."""
    return next(one for one in choices if all(late.hold(content) for late in one.late))


def taking(choices: Choices) -> Choice | None:
    """The one by which a recipient is taken at RCPT: the last if that does, else the first that does."""
    if choices[-1].rule is not None:
        return choices[-1]
    return next((one for one in choices if one.rule is not None), None)


def agree(first: Choices | None, second: Choices | None) -> bool:
    """Whether no message could have one of two recipients taken and the other refused; () is taken whatever it is, and
    of None nobody can tell.
    """
    return first is not None and second is not None and _profile(first) == _profile(second)


def together(recipients: Sequence[Choices]) -> Choices | None:
    """When at least one of those is taken that one address stands for; None: no `Choices` say that."""
    if not all(map(_profile, recipients)):
        return ()
    return recipients[0] if all(agree(recipients[0], other) for other in recipients[1:]) else None


def behind(gate: Choices, choices: Choices) -> Choices:
    """What becomes of a recipient for which an alias stands: where `gate` takes the alias, `choices`."""
    if len(gate) == 1 and gate[0].rule is not None:
        return choices
    ends: list[Choice] = []
    for one in gate:
        ends += [one] if one.rule is None else [end._replace(late=one.late + end.late) for end in choices]
    return tuple(ends)


def _profile(choices: Choices) -> list[tuple[tuple[Late, ...], bool]]:
    """When a recipient is taken and when refused; [] where it is taken always."""
    ends = [(one.late, one.rule is not None) for one in choices]
    while len(ends) > 1 and ends[-2][1] == ends[-1][1]:
        del ends[-2]
    return ends if any(not taken for _, taken in ends) else []
