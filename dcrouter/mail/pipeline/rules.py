"""Which rule a recipient meets: the first in the file that matches, decided at RCPT for each on its own.

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
from dcrouter.config.rules import Clients, Reject, Rule
from dcrouter.mail.envelope import Client
from dcrouter.match.addresses import Networks
from dcrouter.match.recipients import PatternIndex, RecipientPatterns
from dcrouter.wire.smtp.address import POSTMASTER

_KINDS: tuple[MailKind, ...] = ("smtp", "submission", "smtps")
_OURSELVES = tuple(Client(address="127.0.0.1", kind=kind, trusted=True) for kind in _KINDS)


class Decision(NamedTuple):
    """`address`: whom the message is for from now on. `refusal`: the reply of whoever refuses, or None.

    `rule` None: no rule took it, default_action refuses.
    """

    address: str
    rule: Rule | None
    refusal: Reject | None


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
        self._conditions = [_Conditions(rule) for rule in email.rules]
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

    def decide(self, address: str, client: Client, sender: str) -> Decision:
        """For a recipient that `client` asks for, in mail from `sender` (plain, "" for the null reverse-path)."""
        if address[:10].lower() == POSTMASTER and address.lower() in (POSTMASTER, self._postmaster_here):
            if self._postmaster is not None:
                return self._first(self._postmaster, evolve(client, trusted=True), sender)
            if "@" not in address:
                return Decision(address, None, self._default)
        return self._first(address, client, sender)

    def passed(self, decision: Decision, client: Client, sender: str) -> Iterator[tuple[str, str]]:
        """(name, why it does not match) of the rules before the one that was found, in the order of the file; for a
        decision about postmaster, `client` as one that may relay.
        """
        for conditions in self._conditions:
            if conditions.rule is decision.rule:
                return
            yield conditions.rule.name, conditions.why_not(decision.address, client, sender)

    def decide_own(self, address: str) -> Decision:
        """For a recipient of mail that we write ourselves: from the null reverse-path, and as if it came from this host
        through whichever kind of port the rules let it pass.
        """
        for client in _OURSELVES:
            decision = self._first(address, client, "")
            if decision.refusal is None:
                break
        return decision

    def _first(self, address: str, client: Client, sender: str) -> Decision:
        for number in self._candidates(address, sender):
            conditions = self._conditions[number]
            if conditions.meet(address, client, sender):
                action = conditions.rule.action
                return Decision(address, conditions.rule, action if isinstance(action, Reject) else None)
        return Decision(address, None, self._default)

    def _candidates(self, address: str, sender: str) -> Iterator[int]:
        """The numbers of the rules to ask, ascending; some may come twice."""
        found = self._by_recipient.candidates(address) + self._by_sender.candidates(sender)
        if self._always:
            found.append(self._always)
        return iter(found[0]) if len(found) == 1 else merge(*found)


class _Conditions:
    """`match` of one rule."""

    __slots__ = ("_clients", "_kinds", "_networks", "_recipients", "_senders", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        match = rule.match
        self._clients: Clients = match.clients
        self._kinds = match.kinds
        self._networks = None if match.client_ips is None else Networks(match.client_ips)
        self._recipients = None if match.recipients is None else RecipientPatterns(match.recipients)
        self._senders = None if match.senders is None else RecipientPatterns(match.senders)

    def why_not(self, address: str, client: Client, sender: str) -> str:
        """The first condition that does not hold, "" where all do."""
        match = self.rule.match
        if not self._meet_clients(client):
            return f"clients: {match.clients}"
        if self._kinds is not None and client.kind not in self._kinds:
            return f"kinds: {', '.join(self._kinds)}"
        if self._networks is not None and not self._networks.covers(client.address):
            return f"client_ips: {', '.join(map(str, match.client_ips or ()))}"
        if self._recipients is not None and not self._recipients.matches(address):
            return f"recipients: {', '.join(match.recipients or ())}"
        if self._senders is not None and not self._senders.matches(sender):
            return f"senders: {', '.join(match.senders or ())}"
        return ""

    def meet(self, address: str, client: Client, sender: str) -> bool:
        if not self._meet_client(client):
            return False
        if self._recipients is not None and not self._recipients.matches(address):
            return False
        return self._senders is None or self._senders.matches(sender)

    def _meet_client(self, client: Client) -> bool:
        if not self._meet_clients(client):
            return False
        if self._kinds is not None and client.kind not in self._kinds:
            return False
        return self._networks is None or self._networks.covers(client.address)

    def _meet_clients(self, client: Client) -> bool:
        if self._clients == "any":
            return True
        if self._clients == "authenticated":
            return client.account is not None
        return client.may_relay == (self._clients == "may_relay")
