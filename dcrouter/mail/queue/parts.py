"""A message for some of its recipients."""

from __future__ import annotations

from attrs import evolve

from dcrouter.mail.delivery.outcome import Deferred, Outcome
from dcrouter.mail.envelope import Recipient
from dcrouter.mail.message import Message
from dcrouter.mail.queue.store import Key


def keys_of(message: Message) -> list[Key]:
    return [(message.id, one.number) for one in message.envelope.recipients]


def part_for(message: Message, recipients: tuple[Recipient, ...]) -> Message:
    return evolve(message, envelope=evolve(message.envelope, recipients=recipients))


def without_deferred(message: Message, outcomes: list[Outcome]) -> tuple[Message, list[Outcome]]:
    """Only those recipients who were not deferred, with their outcomes."""
    kept = [
        (one, outcome)
        for one, outcome in zip(message.envelope.recipients, outcomes, strict=True)
        if not isinstance(outcome, Deferred)
    ]
    return part_for(message, tuple(one for one, _ in kept)), [outcome for _, outcome in kept]
