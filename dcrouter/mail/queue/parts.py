"""A message for some of its recipients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve
from twisted.internet.defer import Deferred as TwistedDeferred

from dcrouter.mail.delivery.outcome import Deferred, Outcome
from dcrouter.mail.envelope import Recipient
from dcrouter.mail.message import Message
from dcrouter.mail.queue.store import Key


def keys_of(message: Message) -> list[Key]:
    return [(message.id, one.number) for one in message.envelope.recipients]


def part_for(message: Message, recipients: tuple[Recipient, ...]) -> Message:
    return evolve(message, envelope=evolve(message.envelope, recipients=recipients))


def heard_apart(
    message: Message,
    places: Sequence[Sequence[int]],
    parts: Sequence[TwistedDeferred[list[Outcome]]],
    hear: Callable[[Message, list[Outcome]], None],
) -> None:
    """`hear` is told what has come of each of `parts` that ends while others go on. `places`: of their recipients."""
    left = len(parts)
    if left == 1:  # as of most messages: it ends for all at once
        return

    def ended(outcomes: list[Outcome], own: Sequence[int]) -> list[Outcome]:
        nonlocal left
        left -= 1
        if left:
            hear(part_for(message, tuple(message.envelope.recipients[at] for at in own)), outcomes)
        return outcomes

    for part, own in zip(parts, places, strict=True):
        part.addCallback(ended, own)


def without_deferred(message: Message, outcomes: list[Outcome]) -> tuple[Message, list[Outcome]]:
    """Only those recipients who were not deferred, with their outcomes."""
    kept = [
        (one, outcome)
        for one, outcome in zip(message.envelope.recipients, outcomes, strict=True)
        if not isinstance(outcome, Deferred)
    ]
    return part_for(message, tuple(one for one, _ in kept)), [outcome for _, outcome in kept]
