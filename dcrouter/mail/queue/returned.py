"""What the operator has given up: its next attempt is none, and what is under way ends, as failed for his reason.

A mark is memory: what a crash has kept from being settled is simply tried again.
"""

from __future__ import annotations

from collections.abc import Iterable

from dcrouter.mail.delivery.outcome import Delivered, Failed, Outcome
from dcrouter.mail.message import Message
from dcrouter.mail.queue.parts import keys_of, part_for
from dcrouter.mail.queue.store import Key


class Returned:
    """Recipients that go back to their senders, each with the reply that is told."""

    def __init__(self) -> None:
        self._replies: dict[Key, str] = {}

    def __bool__(self) -> bool:
        return bool(self._replies)

    def add(self, keys: Iterable[Key], reply: str) -> None:
        self._replies.update(dict.fromkeys(keys, reply))

    def split(self, message: Message) -> tuple[Message | None, Message | None]:
        """Who is to be tried, and who goes back; None: nobody."""
        recipients = message.envelope.recipients
        back = tuple(one for one in recipients if (message.id, one.number) in self._replies)
        if not back:
            return message, None
        left = tuple(one for one in recipients if one not in back)
        return (part_for(message, left) if left else None), part_for(message, back)

    def outcomes(self, message: Message) -> list[Outcome]:
        """Of a message whose recipients all go back."""
        return [Failed(self._replies.pop(key)) for key in keys_of(message)]

    def amended(self, message: Message, outcomes: list[Outcome]) -> list[Outcome]:
        """Of an attempt that was under way: what was delivered is delivered, all else goes back."""
        said = [self._replies.pop(key, None) for key in keys_of(message)]
        return [
            outcome if reply is None or isinstance(outcome, Delivered | Failed) else Failed(reply)
            for outcome, reply in zip(outcomes, said, strict=True)
        ]
