"""Who may do what: the sender at MAIL, each recipient at RCPT. The rules, and what hangs on them, as replies.

A recipient is refused, in this order: by its rule or by default_action; because its address says where to go next; by
the rule's limits; because DNS lists know the client; because nobody of that name exists; because the message might be
refused for it alone; by greylisting; by rate_limits. A limit is only used up by who is taken.
Where rules ask for headers or size, all this is asked of each rule that the recipient may meet: it is refused now if
they all refuse it, or if one of them cannot take it for the moment; else the message decides (`choices`).
RFC 5321 4.2, 4.5.3.1.10; enhanced codes RFC 3463.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.config.mail import Email
from dcrouter.config.rules import Reject, Rule
from dcrouter.mail.envelope import Client
from dcrouter.mail.pipeline.conditions import Late
from dcrouter.mail.pipeline.rules import Decision, Rules
from dcrouter.mail.server.admitted import Accepted, Admitted, Course
from dcrouter.mail.server.choices import Choice, agree, taking
from dcrouter.mail.server.denial import Denial
from dcrouter.mail.server.ends import Ends
from dcrouter.mail.server.existing import Existing
from dcrouter.mail.server.guards.guards import Guards
from dcrouter.mail.server.guards.limits import Refusal, Tally
from dcrouter.mail.server.known import InThread
from dcrouter.mail.server.quotas import Quotas
from dcrouter.mail.server.verify import Ask
from dcrouter.wire.smtp.address import split
from dcrouter.wire.smtp.command import Sender
from dcrouter.wire.smtp.reply import reply

SENDER_OK = b"250 2.1.0 OK\r\n"
RECIPIENT_OK = b"250 2.1.5 OK\r\n"

_FULL = b"452 4.3.1 Insufficient system storage\r\n"
ROUTED = b"550 5.7.1 Sender-specified routing is refused\r\n"
ALONE = b"452 4.5.3 This recipient needs a message of its own\r\n"

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-_=")


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
        self._existing = Existing(clock, in_thread, ask)
        self._quotas = Quotas(clock.seconds)
        self.reload(email, rules)

    def reload(self, email: Email, rules: Rules) -> None:
        """Other rules, from the next command of each client on. Lists that were read and limits that have been used up
        stay so, by the rule's name, where they are the same.
        """
        self._existing.reload(email.rules)
        self._quotas.reload(email.rules)
        self._rules = rules
        if self._guards is not None:
            self._guards.reload(email)

    def status(self) -> dict[str, int]:
        """Counters since the start."""
        guards = self._guards.status() if self._guards is not None else {}
        return {**self.counters, "verified": self._existing.asked, **guards}

    def met(self, client: Client) -> None:
        """A client has said EHLO: what takes long may begin."""
        if self._guards is not None:
            self._guards.met(client)

    def course(self, session: str, sender: Sender) -> Course:
        """A transaction begins."""
        tally = self._guards.tally(session, sender.size or 0) if self._guards is not None else None
        return Course(sender.address, tally)

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
                return self._no(Denial("limited", refusal.reply, refusal.why))
        return Admitted(SENDER_OK)

    def recipient(self, client: Client, course: Course, address: str) -> Admitted | Deferred[Admitted]:
        """Decides for one recipient of a transaction, which is counted in. The Deferred never fails.

        An address that tells where to go next (`u%d@here`, `d!u@here`, `"u@d"@here`) is refused whatever the rules say:
        a next hop that still follows it would make us a relay for strangers.
        """
        decision = self._rules.decide(address, client, course.sender)
        if decision.before:
            return Deferred.fromCoroutine(self._undecided(client, course, address, decision))
        rule = decision.rule
        denial = denied(decision.address, rule, decision.refusal)
        if denial is not None:
            return self._no(denial)
        assert rule is not None
        denial = self._quotas.over(rule, course.taken)
        if denial is not None:
            return self._no(denial)
        taken = Accepted(decision.address, rule.name)
        if self._guards is not None:
            refusal = self._guards.listed(client, address)
            if isinstance(refusal, Deferred):
                return refusal.addCallback(self._past_lists, rule, taken, client, course)
            return self._past_lists(refusal, rule, taken, client, course)
        return self._past_lists(None, rule, taken, client, course)

    def _past_lists(
        self, refusal: Refusal | None, rule: Rule, taken: Accepted, client: Client, course: Course
    ) -> Admitted | Deferred[Admitted]:
        if refusal is not None:
            return self._no(Denial("listed", refusal.reply, refusal.why))
        denial = self._existing.denial(rule, taken.address, client)
        if isinstance(denial, Deferred):
            return denial.addCallback(self._take, taken, client, course, rule)
        return self._take(denial, taken, client, course, rule)

    # ------------------------------------------------------------------ where the message decides

    async def _undecided(self, client: Client, course: Course, address: str, decision: Decision) -> Admitted:
        ends: list[tuple[tuple[Late, ...], Rule | None, Reject | None]]
        ends = [((one.late,), one.rule, one.refusal) for one in decision.before]
        ends.append(((), decision.rule, decision.refusal))
        choices: list[Choice] = []
        rules: dict[str, Rule] = {}
        for late, rule, refused in ends:
            denial = denied(decision.address, rule, refused)
            if denial is None and rule is not None:
                rules[rule.name] = rule
                over = self._quotas.over(rule, course.taken)
                if over is not None:
                    return self._no(over)
                choices.append(Choice(late, rule.name))
            elif denial is not None:
                choices.append(Choice(late, None, denial))
        if taking(tuple(choices)) is not None and self._guards is not None:
            listed = self._guards.listed(client, address)
            refusal = await listed if isinstance(listed, Deferred) else listed
            if refusal is not None:
                return self._no(Denial("listed", refusal.reply, refusal.why))
        for at, choice in enumerate(choices):
            if choice.rule is not None:
                found = self._existing.denial(rules[choice.rule], decision.address, client)
                denial = await found if isinstance(found, Deferred) else found
                if denial is not None and denial.temporary:
                    return self._no(denial)
                if denial is not None:
                    choices[at] = Choice(choice.late, None, denial)
        by = taking(tuple(choices))
        if by is None or by.rule is None:
            assert choices[-1].denial is not None
            return self._no(choices[-1].denial)
        return self._take(None, Accepted(decision.address, by.rule, tuple(choices)), client, course)

    def settled(self, ends: Ends) -> None:
        """The message has decided."""
        for name in ends.counted:
            self._quotas.count(name)
        for _, denial in ends.refused:
            self.counters[denial.counter] += 1

    # ------------------------------------------------------------------ the end of both

    def _take(
        self,
        denial: Denial | None,
        accepted: Accepted,
        client: Client,
        course: Course,
        rule: Rule | None = None,
    ) -> Admitted:
        """`rule`: the only one that there is."""
        if denial is None and rule is not None:
            denial = self._quotas.over(rule, course.taken)  # others came meanwhile
        if denial is None:
            denial = self._for_now(accepted, client, course)
        if denial is not None:
            return self._no(denial)
        if rule is not None:
            self._quotas.take(rule.name, course.taken)
        for choice in accepted.choices:
            if choice.rule is not None:
                self._quotas.take(choice.rule, course.taken, counts=not choice.late)
        if course.first is None:
            course.first = accepted
        return Admitted(RECIPIENT_OK, accepted)

    def _for_now(self, accepted: Accepted, client: Client, course: Course) -> Denial | None:
        """What lets the client come again."""
        first = course.first
        if first is not None and not client.may_relay and not agree(first.choices, accepted.choices):
            return Denial("limited", ALONE, "the message might be refused for it, and not for the first recipient")
        if self._guards is None:
            return None
        refusal = self._guards.greylisted(client, course.sender, accepted.address)
        if refusal is not None:
            return Denial("greylisted", refusal.reply, refusal.why)
        if course.tally is not None:
            refusal = self._guards.limits.recipient(client, course.sender, accepted.address, course.tally)
            if refusal is not None:
                return Denial("limited", refusal.reply, refusal.why)
        return None

    def _no(self, denial: Denial) -> Admitted:
        self.counters[denial.counter] += 1
        return Admitted(denial.reply, why=denial.why)


def denied(address: str, rule: Rule | None, refusal: Reject | None) -> Denial | None:
    """How the rule refuses, or default_action where there is none; or because of how the address is written."""
    if refusal is not None:
        by = "default_action" if rule is None else f"rule {rule.name}"
        return Denial("refused", reply(refusal.code, refusal.message), by)
    if rule is not None and is_routed(address):
        return Denial("refused", ROUTED, f"rule {rule.name} would take it, but it says where to go next")
    return None


def is_routed(address: str) -> bool:
    """Whether the address tells where to go next."""
    local, _domain = split(address)
    return not _PLAIN.issuperset(local) and any(mark in local for mark in "@%!")
