"""Who writes the notifications that the queue sends of failures and delays: the seam to delivery/bounce (RFC 3464)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dcrouter.mail.delivery.outcome import Outcome
from dcrouter.mail.envelope import Recipient
from dcrouter.mail.message import Message


class Notices(Protocol):
    """Builds the messages; the queue keeps them in the transaction that settles what they tell of, and sends them.

    `octets`: how much of the beginning of a message it wants to be given as `head`. A message that is built has the
    null sender, its octets in memory, recipients with their rules, and says by `notice` whom it tells. None: nobody is
    to be told. Never called for a null sender, nor for a notification.
    """

    @property
    def octets(self) -> int: ...

    def failed(self, message: Message, ended: Sequence[tuple[Recipient, Outcome]], head: bytes) -> Message | None:
        """Tells that these recipients will not get it. A `Deferred` among the outcomes was the last: it is too old."""
        ...

    def delayed(self, message: Message, ended: Sequence[tuple[Recipient, Outcome]], head: bytes) -> Message | None:
        """Tells, once for each recipient, that it still waits."""
        ...
