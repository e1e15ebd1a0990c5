"""Who brought a message, who it is from and whom it is for: all apart from its content. RFC 5321 2.3.1."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from dcrouter.config.actions import MailKind
from dcrouter.wire.smtp.parameters import Ret

Occasion = Literal["NEVER", "SUCCESS", "FAILURE", "DELAY"]
"""What NOTIFY says a sender wants to hear of (RFC 3461 4.1)."""


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
    waits. `zone`: the sending zone, "" the default one; `source`: the address of the pool from which the last attempt
    was made, "" none yet. `notify`: Occasions with commas between them, "" where the client did not say; `orcpt`:
    `type;address` that the sender wrote first, no xtext any more, "" likewise (RFC 3461 4.1, 4.2).
    """

    number: int
    address: str
    rule: str
    attempts: int = 0
    told: bool = False
    zone: str = ""
    source: str = ""
    notify: str = ""
    orcpt: str = ""

    def wants(self, occasion: Occasion) -> bool:
        """Whether the sender is to hear of it. Who does not say hears of failures and delays (RFC 3461 4.1)."""
        return occasion in (self.notify or "FAILURE,DELAY")


@frozen(kw_only=True)
class Terms:
    """What a client asked for with MAIL, or in the header, for the whole message; nearly nobody does.

    `smtputf8`: addresses or header need a next hop that takes UTF-8 (RFC 6531). `requiretls`: no hop without verified
    TLS (RFC 8689 2); `tls_optional`: `TLS-Required: No` (5). `ret`: what a notification of failure returns; `envid`:
    the sender's name for the message, no xtext any more, "" none (RFC 3461 4.3, 4.4). `priority`: -9 to 9, the highest
    leaves first (RFC 6710). `release`: UTC epoch seconds before which it is not sent, 0.0 at once (RFC 4865).
    """

    smtputf8: bool = False
    requiretls: bool = False
    tls_optional: bool = False
    ret: Ret = ""
    envid: str = ""
    priority: int = 0
    release: float = 0.0


PLAIN = Terms()
"""Nothing was asked for."""


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
    terms: Terms = PLAIN

    @property
    def notifies(self) -> bool:
        """Whether a recipient's NOTIFY says anything."""
        return any(one.notify for one in self.recipients)
