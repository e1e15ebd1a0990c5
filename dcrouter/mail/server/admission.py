"""Who may do what: the sender at MAIL, each recipient at RCPT. The rules, and what hangs on them, as replies.

A recipient is refused, in this order: by its rule or by default_action; because its address says where to go next; by
the rule's limits; because DNS lists know the client; because nobody of that name exists; by greylisting; by
rate_limits. A limit is only used up by who is taken.
RFC 5321 4.2, 4.5.3.1.10; enhanced codes RFC 3463.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from dcrouter.config.mail import Email
from dcrouter.config.rules import Rule
from dcrouter.mail.envelope import Client
from dcrouter.mail.pipeline.rules import Decision, Rules
from dcrouter.mail.server.guards.guards import Guards
from dcrouter.mail.server.guards.limits import Refusal, Tally
from dcrouter.mail.server.known import InThread, KnownRecipients
from dcrouter.mail.server.verify import Ask, Verdict, Verifier
from dcrouter.net.limits import Bucket
from dcrouter.wire.smtp.address import split
from dcrouter.wire.smtp.command import Sender
from dcrouter.wire.smtp.reply import reply

SENDER_OK = b"250 2.1.0 OK\r\n"
RECIPIENT_OK = b"250 2.1.5 OK\r\n"

_FULL = b"452 4.3.1 Insufficient system storage\r\n"
ROUTED = b"550 5.7.1 Sender-specified routing is refused\r\n"
_TOO_MANY = b"452 4.5.3 Too many recipients\r\n"
_TOO_OFTEN = b"451 4.7.1 Too much mail, try again later\r\n"
NOBODY = b"550 5.1.1 No such user here\r\n"
_NOT_KNOWN = b"450 4.1.1 Recipient cannot be verified now, try again later\r\n"

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-_=")


class _Asked(NamedTuple):
    """A recipient that a rule would take."""

    decision: Decision
    rule: Rule
    taken: dict[str, int]
    client: Client
    sender: str
    tally: Tally | None


class Admitted(NamedTuple):
    """`reply` answers RCPT. `rule` None: refused, and `why` is for the log; else the recipient is `address`, by that
    rule.
    """

    reply: bytes
    address: str = ""
    rule: str | None = None
    why: str = ""


class Admission:
    """`full`: why the queue takes nothing more, None where it does. `counters` since the start: recipients that were
    refused, by reason.
    """

    def __init__(
        self,
        email: Email,
        rules: Rules,
        *,
        clock: Any,
        in_thread: InThread,
        ask: Ask,
        full: Callable[[int], object],
        guards: Guards | None = None,
    ) -> None:
        self.counters = dict.fromkeys(("refused", "unknown", "unverified", "limited", "listed", "greylisted"), 0)
        self._full = full
        self._guards = guards
        self._clock = clock
        self._in_thread = in_thread
        self._verifier = Verifier(ask, clock)
        self._named: dict[str, Rule] = {}
        self._buckets: dict[str, Bucket] = {}
        self._known: dict[Path, KnownRecipients] = {}
        self.reload(email, rules)

    def reload(self, email: Email, rules: Rules) -> None:
        """Other rules, from the next command of each client on. Lists that were read and limits that have been used up
        stay so, by the rule's name, where they are the same.
        """
        before, self._named = self._named, {rule.name: rule for rule in email.rules}
        self._verifier.forget({name for name, rule in before.items() if self._named.get(name) != rule})
        buckets, self._buckets = self._buckets, {}
        for rule in email.rules:
            rate = rule.limits.messages
            if rate is not None:
                same = rule.name in before and before[rule.name].limits.messages == rate
                self._buckets[rule.name] = buckets[rule.name] if same else Bucket(rate, self._clock.seconds)
        known, self._known = self._known, {}
        for path in {rule.recipients_file for rule in email.rules if rule.recipients_file is not None}:
            self._known[path] = known.get(path) or KnownRecipients(path, self._in_thread, self._clock.seconds)
        self._rules = rules
        if self._guards is not None:
            self._guards.reload(email)

    def status(self) -> dict[str, int]:
        """Counters since the start."""
        guards = self._guards.status() if self._guards is not None else {}
        return {**self.counters, "verified": self._verifier.asked, **guards}

    def met(self, client: Client) -> None:
        """A client has said EHLO: what takes long may begin."""
        if self._guards is not None:
            self._guards.met(client)

    def tally(self, session: str, sender: Sender) -> Tally | None:
        """What the guards count of a message that begins; None where there are none."""
        return self._guards.tally(session, sender.size or 0) if self._guards is not None else None

    def received(self, tally: Tally | None, size: int) -> None:
        """A message of `size` octets was taken."""
        if tally is not None and self._guards is not None:
            self._guards.limits.received(tally, size)

    def sender(self, client: Client, sender: Sender, tally: Tally | None = None) -> Admitted:
        """The reply to MAIL."""
        if self._full(sender.size or 0):
            return Admitted(_FULL)
        if tally is not None and self._guards is not None:
            refusal = self._guards.limits.sender(client, sender.address, tally)
            if refusal is not None:
                return self._no("limited", refusal.reply, refusal.why)
        return Admitted(SENDER_OK)

    def recipient(
        self, client: Client, sender: str, address: str, taken: dict[str, int], tally: Tally | None = None
    ) -> Admitted | Deferred[Admitted]:
        """Decides for one recipient. `taken`: of each rule, how many recipients of this transaction it has taken; it is
        counted in. `tally`: what the guards have counted of it. The Deferred never fails.

        An address that tells where to go next (`u%d@here`, `d!u@here`, `"u@d"@here`) is refused whatever the rules say:
        a next hop that still follows it would make us a relay for strangers.
        """
        decision = self._rules.decide(address, client, sender)
        rule = decision.rule
        if rule is None or decision.refusal is not None:
            assert decision.refusal is not None
            by = "default_action" if rule is None else f"rule {rule.name}"
            return self._no("refused", reply(decision.refusal.code, decision.refusal.message), by)
        if is_routed(decision.address):
            return self._no("refused", ROUTED, f"rule {rule.name} would take it, but it says where to go next")
        over = self._over(rule, taken)
        if over is not None:
            return over
        asked = _Asked(decision, rule, taken, client, sender, tally)
        if self._guards is not None:
            refusal = self._guards.listed(client, address)
            if isinstance(refusal, Deferred):
                return refusal.addCallback(self._past_lists, asked)
            return self._past_lists(refusal, asked)
        return self._exists(asked)

    def _past_lists(self, refusal: Refusal | None, asked: _Asked) -> Admitted | Deferred[Admitted]:
        if refusal is not None:
            return self._no("listed", refusal.reply, refusal.why)
        return self._exists(asked)

    def _exists(self, asked: _Asked) -> Admitted | Deferred[Admitted]:
        decision, rule, client = asked.decision, asked.rule, asked.client
        if rule.recipients_file is not None:
            exists = self._known[rule.recipients_file].has(decision.address)
            if isinstance(exists, Deferred):
                return exists.addCallback(self._listed, asked)
            return self._listed(exists, asked)
        if rule.verify is not None:
            verdict = self._verifier.verdict(rule, decision.address, client)
            if isinstance(verdict, Deferred):
                return verdict.addCallback(self._verified, asked)
            return self._verified(verdict, asked)
        return self._take(asked)

    def _over(self, rule: Rule, taken: dict[str, int]) -> Admitted | None:
        """The refusal of a rule that has taken enough."""
        count = taken.get(rule.name, 0)
        most = rule.limits.max_recipients
        if most is not None and count >= most:
            return self._no("limited", _TOO_MANY, f"rule {rule.name}: limits.max_recipients")
        bucket = self._buckets.get(rule.name)
        if bucket is not None and not count and bucket.wait():
            return self._no("limited", _TOO_OFTEN, f"rule {rule.name}: limits.messages")
        return None

    def _listed(self, found: bool | None, asked: _Asked) -> Admitted:
        rule = asked.rule
        if found is None:
            return self._no("unverified", _NOT_KNOWN, f"rule {rule.name}: recipients_file cannot tell now")
        if not found:
            return self._no("unknown", NOBODY, f"rule {rule.name}: not in recipients_file")
        return self._take(asked)

    def _verified(self, verdict: Verdict, asked: _Asked) -> Admitted:
        rule = asked.rule
        if verdict is Verdict.UNKNOWN:
            return self._no("unverified", _NOT_KNOWN, f"rule {rule.name}: the target could not be asked")
        if verdict is Verdict.ABSENT:
            return self._no("unknown", NOBODY, f"rule {rule.name}: the target has no such user")
        return self._take(asked)

    def _take(self, asked: _Asked) -> Admitted:
        """A message counts for the rule's limit with the first recipient that the rule takes of it."""
        decision, rule, taken, client, sender, tally = asked
        bucket = self._buckets.get(rule.name)
        counts = bucket is not None and not taken.get(rule.name)
        if bucket is not None and counts and bucket.wait():
            return self._no("limited", _TOO_OFTEN, f"rule {rule.name}: limits.messages")  # others came meanwhile
        if self._guards is not None:
            refusal = self._guards.greylisted(client, sender, decision.address)
            if refusal is not None:
                return self._no("greylisted", refusal.reply, refusal.why)
        if tally is not None and self._guards is not None:
            refusal = self._guards.limits.recipient(client, sender, decision.address, tally)
            if refusal is not None:
                return self._no("limited", refusal.reply, refusal.why)
        if bucket is not None and counts:
            bucket.take()
        taken[rule.name] = taken.get(rule.name, 0) + 1
        return Admitted(RECIPIENT_OK, decision.address, rule.name)

    def _no(self, counter: str, answer: bytes, why: str) -> Admitted:
        self.counters[counter] += 1
        return Admitted(answer, why=why)


def is_routed(address: str) -> bool:
    """Whether the address tells where to go next."""
    local, _domain = split(address)
    return not _PLAIN.issuperset(local) and any(mark in local for mark in "@%!")
