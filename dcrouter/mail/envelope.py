"""Who brought a message, who it is from and whom it is for: all apart from its content. RFC 5321 2.3.1."""

from __future__ import annotations

from attrs import frozen

from dcrouter.config.actions import MailKind


@frozen(kw_only=True)
class Client:
    """Who brings mail: what rules and limits ask about.

    `address`: its IP address. `kind`: that of the port it came through. `account`: whom it has logged in as.
    `trusted`: whether its address is in email.trusted.
    """

    address: str
    kind: MailKind
    account: str | None = None
    trusted: bool = False

    @property
    def may_relay(self) -> bool:
        return self.account is not None or self.trusted


@frozen(kw_only=True)
class Recipient:
    """One recipient of one message.

    `number`: unique within the message, from 0. `rule`: the name of the rule that accepted it; the rule itself is
    looked up at each attempt. `attempts`: those that have ended so far. `told`: whether the sender has heard that it
    waits.
    """

    number: int
    address: str
    rule: str
    attempts: int = 0
    told: bool = False


@frozen(kw_only=True)
class Envelope:
    """`sender` "" is the null reverse-path. `session`: that of the connection which brought the message, for logs.

    `may_relay`: whether the client that brought it might relay; `vouched`: SPF or DKIM stands for `sender`. Both decide
    who hears of failures.
    """

    session: str
    sender: str
    recipients: tuple[Recipient, ...]
    may_relay: bool = True
    vouched: bool = False
