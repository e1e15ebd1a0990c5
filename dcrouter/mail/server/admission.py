"""Who may do what at which command: the sender at MAIL, each recipient at RCPT, the message by what it has been
through.
"""

from __future__ import annotations

from typing import NamedTuple

from dcrouter.mail.pipeline.rules import Rules
from dcrouter.wire.smtp.address import split
from dcrouter.wire.smtp.reply import reply

MAX_HOPS = 50
"""Received fields after which a message is taken for one that goes in circles (RFC 5321 6.3)."""

SENDER_OK = b"250 2.1.0 OK\r\n"
RECIPIENT_OK = b"250 2.1.5 OK\r\n"
LOOP = b"554 5.4.6 Too many hops\r\n"
_ROUTED = b"550 5.7.1 Sender-specified routing is refused\r\n"


class Admitted(NamedTuple):
    """`reply` answers RCPT. `rule` None: refused; else the recipient is `address`, by that rule."""

    reply: bytes
    address: str = ""
    rule: str | None = None


class Admission:
    """The rules as replies."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def recipient(self, address: str) -> Admitted:
        """Decides for one recipient.

        An address that tells where to go next (`u%d@here`, `d!u@here`, `"u@d"@here`) is refused whatever the rules say:
        a next hop that still follows it would make us a relay for strangers.
        """
        decision = self._rules.decide(address)
        if decision.refusal is not None:
            return Admitted(reply(decision.refusal.code, decision.refusal.message))
        local, _domain = split(decision.address)
        if not _PLAIN.issuperset(local) and any(mark in local for mark in "@%!"):
            return Admitted(_ROUTED)
        assert decision.rule is not None
        return Admitted(RECIPIENT_OK, decision.address, decision.rule.name)


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-_=")


def hops(head: bytes) -> int:
    """How many Received fields are in the header block that `head` begins with."""
    end = head.find(b"\r\n\r\n")
    block = head[:end] if end >= 0 else head
    return (b"\r\n" + block).lower().count(b"\r\nreceived:")
