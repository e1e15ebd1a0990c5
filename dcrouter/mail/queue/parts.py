"""A message for some of its recipients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve
from twisted.internet.defer import Deferred as TwistedDeferred
from twisted.internet.defer import gatherResults

from dcrouter.mail.delivery.outcome import Deferred, Outcome
from dcrouter.mail.envelope import Recipient
from dcrouter.mail.message import Message
from dcrouter.mail.queue.store import Key


def keys_of(message: Message) -> list[Key]:
    return [(message.id, one.number) for one in message.envelope.recipients]


def part_for(message: Message, recipients: tuple[Recipient, ...]) -> Message:
    return evolve(message, envelope=evolve(message.envelope, recipients=recipients))


def together(
    message: Message,
    numbers: Sequence[int],
    places: Sequence[Sequence[int]],
    parts: Sequence[TwistedDeferred[list[Outcome]]],
    hear: Callable[[Message, list[Outcome]], None],
) -> TwistedDeferred[list[Outcome]]:
    """What comes of all `parts`, in the order of `numbers`: recipients, by their place in the message. `places`: those
    of each part. `hear` is told what has come of each that ends while others go on.
    """
    left = len(parts)
    if left == 1:  # as of most messages: it ends for all at once
        return parts[0]

    def ended(outcomes: list[Outcome], own: Sequence[int]) -> list[Outcome]:
        nonlocal left
        left -= 1
        if left:
            hear(part_for(message, tuple(message.envelope.recipients[at] for at in own)), outcomes)
        return outcomes

    for part, own in zip(parts, places, strict=True):
        part.addCallback(ended, own)
    return gatherResults(parts).addCallback(_in_order, places, numbers)


def without_deferred(message: Message, outcomes: list[Outcome]) -> tuple[Message, list[Outcome]]:
    """Only those recipients who were not deferred, with their outcomes."""
    kept = [
        (one, outcome)
        for one, outcome in zip(message.envelope.recipients, outcomes, strict=True)
        if not isinstance(outcome, Deferred)
    ]
    return part_for(message, tuple(one for one, _ in kept)), [outcome for _, outcome in kept]


def _in_order(lists: list[list[Outcome]], places: Sequence[Sequence[int]], numbers: Sequence[int]) -> list[Outcome]:
    by_number = {
        number: outcome
        for own, outcomes in zip(places, lists, strict=True)
        for number, outcome in zip(own, outcomes, strict=True)
    }
    return [by_number[number] for number in numbers]
