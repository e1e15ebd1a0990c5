"""`match` of one rule: what is known at RCPT, and what is known at the end of the message (`Late`)."""

from __future__ import annotations

from typing import NamedTuple

from attrs import field, frozen

from dcrouter.config.rules import Clients, Rule, RuleMatch
from dcrouter.config.units import written_size
from dcrouter.mail.envelope import Client
from dcrouter.match.addresses import Networks
from dcrouter.match.headers import HasHeaders, Headers
from dcrouter.match.recipients import RecipientPatterns


class Content(NamedTuple):
    """A message, as far as rules ask about it: its header as it came, and its octets (RFC 1870 3: without the end)."""

    head: HasHeaders
    size: int


@frozen
class Late:
    """What a rule asks of a message. Two that are equal hold for the same messages."""

    headers: tuple[tuple[str, str], ...]
    size_over: int | None
    _wanted: Headers = field(eq=False, repr=False)

    @classmethod
    def of(cls, match: RuleMatch) -> Late | None:
        """None where nothing is asked."""
        if not match.asks_message:
            return None
        headers = match.headers or {}
        lower = sorted((name.lower(), value) for name, value in headers.items())
        return cls(tuple(lower), match.size_over, Headers(headers))

    def hold(self, content: Content) -> bool:
        if self.size_over is not None and content.size <= self.size_over:
            return False
        return not self.headers or self._wanted.hold(content.head)

    def __str__(self) -> str:
        """As the operator wrote it."""
        words = [f"headers: {', '.join(f'{name}: {value}' for name, value in self.headers)}"] if self.headers else []
        if self.size_over is not None:
            words.append(f"size_over: {written_size(self.size_over)}")
        return ", ".join(words)


class Conditions:
    """`late`: what remains to be asked of the message, None: nothing."""

    __slots__ = ("_clients", "_kinds", "_networks", "_recipients", "_senders", "late", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        match = rule.match
        self.late = Late.of(match)
        self._clients: Clients = match.clients
        self._kinds = match.kinds
        self._networks = None if match.client_ips is None else Networks(match.client_ips)
        self._recipients = None if match.recipients is None else RecipientPatterns(match.recipients)
        self._senders = None if match.senders is None else RecipientPatterns(match.senders)

    def why_not(self, address: str, client: Client, sender: str) -> str:
        """The first condition that does not hold at RCPT, "" where all do."""
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
        """Whether all that is known at RCPT holds."""
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
