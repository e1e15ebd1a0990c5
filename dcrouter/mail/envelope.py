"""Who a message is from and whom it is for: what MAIL and RCPT said, apart from its content. RFC 5321 2.3.1."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Recipient:
    """One recipient of one message.

    `number`: unique within the message, from 0. `rule`: the name of the rule that accepted it; the rule itself is
    looked up at each attempt. `attempts`: those that have ended so far.
    """

    number: int
    address: str
    rule: str
    attempts: int = 0


@frozen(kw_only=True)
class Envelope:
    """`sender` "" is the null reverse-path. `session`: that of the connection which brought the message, for logs."""

    session: str
    sender: str
    recipients: tuple[Recipient, ...]
