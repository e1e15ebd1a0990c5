"""Which rule a recipient meets: the first in the file that matches, decided at RCPT for each on its own.

`<postmaster>` and postmaster@hostname become email.postmaster, which then meets the rules as from a client that may
relay (RFC 5321 4.5.1). Whom no rule takes, default_action refuses.
"""

from __future__ import annotations

from typing import NamedTuple

from dcrouter.config.mail import Email
from dcrouter.config.rules import Reject, Rule
from dcrouter.match.recipients import RecipientPatterns
from dcrouter.wire.smtp.address import POSTMASTER


class Decision(NamedTuple):
    """`address`: whom the message is for from now on. `rule` None: refused by default_action, which is `refusal`."""

    address: str
    rule: Rule | None
    refusal: Reject | None


class Rules:
    """The rules of one configuration, ready to match."""

    def __init__(self, email: Email) -> None:
        self._postmaster = email.postmaster
        self._postmaster_here = f"{POSTMASTER}@{email.hostname}".lower()
        self._default = email.default_action
        self._by_name = {rule.name: rule for rule in email.rules}
        self._rules = [
            (rule, rule.match.clients, RecipientPatterns(rule.match.recipients) if rule.match.recipients else None)
            for rule in email.rules
        ]

    def named(self, name: str) -> Rule | None:
        """The rule that queued mail names, None where it is gone."""
        return self._by_name.get(name)

    def decide(self, address: str) -> Decision:
        """For a recipient that a stranger asks for; until clients can prove who they are, everyone is one."""
        stranger = True
        if address[:10].lower() == POSTMASTER and address.lower() in (POSTMASTER, self._postmaster_here):
            if self._postmaster is not None:
                address, stranger = self._postmaster, False
            elif "@" not in address:
                return Decision(address, None, self._default)
        for rule, clients, patterns in self._rules:
            if (stranger or clients == "any") and (patterns is None or patterns.matches(address)):
                action = rule.action
                return Decision(address, rule, action if isinstance(action, Reject) else None)
        return Decision(address, None, self._default)
