"""Which rule a recipient meets: the first in the file that matches, decided at RCPT for each on its own.

Rules that ask about the message are met at its end: until then there are several that a recipient may meet.

`<postmaster>` and postmaster@hostname become email.postmaster, which then meets the rules as from a client that may
relay (RFC 5321 4.5.1). Whom no rule takes, default_action refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import NamedTuple

from attrs import evolve

from dcrouter.config.actions import MailKind
from dcrouter.config.mail import Email
from dcrouter.config.rules import Reject, Rule
from dcrouter.mail.envelope import Client
from dcrouter.mail.pipeline.conditions import Conditions, Late
from dcrouter.match.recipients import PatternIndex
from dcrouter.wire.smtp.address import POSTMASTER

_KINDS: tuple[MailKind, ...] = ("smtp", "submission", "smtps")
_OURSELVES = tuple(Client(address="127.0.0.1", kind=kind, trusted=True) for kind in _KINDS)


class Open(NamedTuple):
    """A rule that a recipient meets if `late` holds of the message, and no such rule before it does."""

    late: Late
    rule: Rule
    refusal: Reject | None


class Decision(NamedTuple):
    """`address`: whom the message is for from now on. `refusal`: the reply of whoever refuses, or None.

    `rule` None: no rule took it, default_action refuses. `before`: rules that may still take it at the end of the
    message, in order.
    """

    address: str
    rule: Rule | None
    refusal: Reject | None
    before: tuple[Open, ...] = ()


class Rules:
    """The rules of one configuration, ready to match.

    A rule is found by its recipients' patterns, or where it has none by its senders'; what remains is asked of every
    recipient. So ten thousand rules for as many domains cost what one does.
    """

    def __init__(self, email: Email) -> None:
        self._postmaster = email.postmaster
        self._postmaster_here = f"{POSTMASTER}@{email.hostname}".lower()
        self._default = email.default_action
        self._by_name = {rule.name: rule for rule in email.rules}
        self._conditions = [Conditions(rule) for rule in email.rules]
        self._by_recipient, self._by_sender, self._always = PatternIndex(), PatternIndex(), list[int]()
        for number, rule in enumerate(email.rules):
            if rule.match.recipients is not None:
                self._by_recipient.add(rule.match.recipients, number)
            elif rule.match.senders is not None:
                self._by_sender.add(rule.match.senders, number)
            else:
                self._always.append(number)

    def named(self, name: str) -> Rule | None:
        """The rule that queued mail names, None where it is gone."""
        return self._by_name.get(name)

    def asks_message(self, name: str) -> bool:
        """Whether the rule of this name is met at the end of a message."""
        return self._by_name[name].match.asks_message

    def decide(self, address: str, client: Client, sender: str) -> Decision:
        """For a recipient that `client` asks for, in mail from `sender` (plain, "" for the null reverse-path)."""
        if address[:10].lower() == POSTMASTER and address.lower() in (POSTMASTER, self._postmaster_here):
            if self._postmaster is not None:
                return self._first(self._postmaster, evolve(client, trusted=True), sender)
            if "@" not in address:
                return Decision(address, None, self._default)
        return self._first(address, client, sender)

    def passed(self, decision: Decision, client: Client, sender: str) -> Iterator[tuple[str, str]]:
        """(name, why it does not match) of the rules before the one that was found, in the order of the file, without
        those that the message may still meet; for a decision about postmaster, `client` as one that may relay.
        """
        for conditions in self._conditions:
            if conditions.rule is decision.rule:
                return
            why = conditions.why_not(decision.address, client, sender)
            if why:
                yield conditions.rule.name, why

    def decide_own(self, address: str) -> Decision:
        """For a recipient of mail that we write ourselves: from the null reverse-path, and as if it came from this host
        through whichever kind of port the rules let it pass. Rules that ask about the message are not met.
        """
        for client in _OURSELVES:
            decision = self._first(address, client, "")._replace(before=())
            if decision.refusal is None:
                break
        return decision

    def _first(self, address: str, client: Client, sender: str) -> Decision:
        before: list[Open] = []
        last = -1
        for number in self._candidates(address, sender):
            conditions = self._conditions[number]
            if number == last or not conditions.meet(address, client, sender):
                continue
            last = number
            action = conditions.rule.action
            refusal = action if isinstance(action, Reject) else None
            if conditions.late is None:
                return Decision(address, conditions.rule, refusal, tuple(before))
            before.append(Open(conditions.late, conditions.rule, refusal))
        return Decision(address, None, self._default, tuple(before))

    def _candidates(self, address: str, sender: str) -> Iterator[int]:
        """The numbers of the rules to ask, ascending; some may come twice."""
        found = self._by_recipient.candidates(address) + self._by_sender.candidates(sender)
        if self._always:
            found.append(self._always)
        return iter(found[0]) if len(found) == 1 else merge(*found)
