"""One transaction as connections see it: what is sent, and how its owner hears what came of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple
from typing import Protocol as Shape

from dcrouter.mail.delivery.body import Content
from dcrouter.mail.delivery.outcome import Outcome, Peer, Postponed
from dcrouter.mail.message import Message
from dcrouter.wire.smtp.client import Transaction
from dcrouter.wire.smtp.reply import Reply

NO_ANSWER = "4.4.1"
"""RFC 3463 3.5."""


Hear = Callable[[Message, list[Outcome]], None]
"""A message for some of its recipients, one outcome for each."""


class Sending(Shape):
    """One transaction that waits for a connection, or is on one. `ticket`: the same each time that it comes."""

    transaction: Transaction
    content: Content

    @property
    def ticket(self) -> Hashable: ...

    def finished(self, replies: tuple[Reply, ...], peer: Peer) -> None:
        """One reply for each recipient."""

    def answered(self, replies: tuple[Reply | None, ...], peer: Peer) -> None:
        """By LMTP some recipients have their replies, while others wait for theirs; `finished` has them again."""

    def unanswered(self, replies: tuple[Reply | None, ...], reason: str, peer: Peer) -> None:
        """The server has the message, perhaps; by LMTP some recipients may have their replies."""

    def parted(self, reply: str) -> bool:
        """421 was all that a kept connection has said to it, before the message: whether it takes another one."""

    def refused(self, replies: tuple[Reply | None, ...], peer: Peer) -> None:
        """What the server had said of its first recipients when it broke off; `unreachable` follows."""

    def unreachable(self, trouble: Trouble) -> None:
        """The message has not left."""

    def postponed(self, outcome: Postponed) -> None:
        """Nothing was tried."""


class Trouble(NamedTuple):
    """Why a next hop could not be used. `status`: enhanced code for mail that waits for it. `gone`: its reply, where
    it takes no mail at all, ever (RFC 7504). `said`: its reply, where that was what it refused with. `unbound`: nothing
    can be sent from the address of ours.
    """

    target: str
    reason: str
    status: str = NO_ANSWER
    gone: str = ""
    said: str = ""
    unbound: bool = False
