"""Who writes the notifications that the queue sends: the seam to delivery/bounce (RFC 3461, RFC 3464)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from dcrouter.mail.delivery.outcome import Outcome
from dcrouter.mail.envelope import Recipient
from dcrouter.mail.message import Message


class Ended(NamedTuple):
    """What a sender is told of one recipient. `failed`: it will not get the message (a `Deferred` was the last: it is
    too old); `delayed`: it still waits, which is told once; the others: it has it, or a server that does not report.
    """

    recipient: Recipient
    outcome: Outcome
    action: Literal["failed", "delayed", "delivered", "relayed"]


class Notices(Protocol):
    """Builds the messages; the queue keeps them in the transaction that settles what they tell of, and sends them.

    A message that is built has the null sender, its octets in memory, recipients with their rules, and says by `notice`
    whom it tells. Never asked of a null sender's message, nor of a notification.
    """

    def octets(self, message: Message) -> int:
        """How much of the beginning of a message `told` wants to be given as `head`."""
        ...

    def told(self, message: Message, ended: Sequence[Ended], head: bytes) -> Message | None:
        """One notification of all of them. None: nobody is told; nor is anybody then of those who failed."""
        ...
