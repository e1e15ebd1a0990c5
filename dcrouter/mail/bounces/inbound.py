"""Whose mail comes here from outside: only there a sender with a mark of ours can be written to."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from dcrouter.config.mail import Email
from dcrouter.config.patterns import parse, reaches_any_domain
from dcrouter.config.rules import Deliver, Reject, Rule
from dcrouter.mail.envelope import Client
from dcrouter.mail.pipeline.rules import Rules

_STRANGER = Client(address="0.0.0.0", kind="smtp", trusted=False)


class Inbound:
    """The rules by which others' servers bring reports, from whichever networks they may come."""

    def __init__(self, email: Email) -> None:
        self._rules = Rules(evolve(email, rules=tuple(_by_anybody(rule) for rule in email.rules if _is_for_us(rule))))

    def takes(self, address: str) -> bool:
        """Whether a report for it would be taken, as far as rules say."""
        decision = self._rules.decide(address, _STRANGER, "")
        return decision.refusal is None or any(one.refusal is None for one in decision.before)


def _is_for_us(rule: Rule) -> bool:
    match = rule.match
    if isinstance(rule.action, Reject):
        return match.client_ips is None
    ends_here = rule.recipients_file is not None or isinstance(rule.action, Deliver)
    return match.clients in ("any", "strangers") and (ends_here or _names_domains(match.recipients))


def _names_domains(recipients: Sequence[str] | None) -> bool:
    """What a network that may relay reaches is not ours for that."""
    return recipients is not None and not any(reaches_any_domain(parse(one)) for one in recipients)


def _by_anybody(rule: Rule) -> Rule:
    return evolve(rule, match=evolve(rule.match, client_ips=None))
