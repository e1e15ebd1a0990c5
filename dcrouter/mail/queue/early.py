"""Recipients who have a message while its attempt goes on for others, whose servers may take minutes.

They leave the queue at once: a crash in those minutes is not to send them a second copy. Who wants to hear of success
is told with the others, and leaves with them.
"""

from __future__ import annotations

from dcrouter.mail.delivery.outcome import Delivered, Outcome
from dcrouter.mail.message import Message
from dcrouter.mail.queue.parts import keys_of, part_for
from dcrouter.mail.queue.store import Key


class Early:
    """Those of attempts that are under way."""

    def __init__(self) -> None:
        self._keys: set[Key] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def leaving(self, message: Message, outcomes: list[Outcome]) -> tuple[Message, list[Outcome]] | None:
        """Of a part of an attempt, one outcome each: for whom it is over, once; None: for nobody."""
        found = [
            (one, outcome)
            for one, outcome in zip(message.envelope.recipients, outcomes, strict=True)
            if isinstance(outcome, Delivered)
            and not (outcome.told and one.wants("SUCCESS"))
            and (message.id, one.number) not in self._keys
        ]
        if not found:
            return None
        part = part_for(message, tuple(one for one, _ in found))
        self._keys.update(keys_of(part))
        return part, [outcome for _, outcome in found]

    def rest(self, message: Message, outcomes: list[Outcome]) -> tuple[Message, list[Outcome]] | None:
        """Of an attempt that has ended: all others; None: nobody has left early."""
        keys = keys_of(message)
        if self._keys.isdisjoint(keys):
            return None
        others = [at for at, key in enumerate(keys) if key not in self._keys]
        self._keys.difference_update(keys)
        recipients = message.envelope.recipients
        return part_for(message, tuple(recipients[at] for at in others)), [outcomes[at] for at in others]
