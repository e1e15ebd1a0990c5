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

from attrs import evolve
from twisted.internet.defer import Deferred

from dcrouter.config.aliases import MAX_TARGETS
from dcrouter.config.mail import Email
from dcrouter.config.rules import Reject, Rule
from dcrouter.mail.envelope import Client
from dcrouter.mail.pipeline.conditions import Late
from dcrouter.mail.pipeline.rules import Decision, Rules
from dcrouter.mail.server.admitted import Accepted, Admitted, Course
from dcrouter.mail.server.aliases import AliasesFile
from dcrouter.mail.server.choices import TAKEN, Choice, Choices, agree, behind, taking, together
from dcrouter.mail.server.denial import Denial
from dcrouter.mail.server.ends import Ends
from dcrouter.mail.server.existing import Existing
from dcrouter.mail.server.guards.guards import Guards
from dcrouter.mail.server.guards.limits import Refusal, Tally
from dcrouter.mail.server.quotas import Quotas
from dcrouter.mail.server.verify import Ask
from dcrouter.mail.server.watched import InThread
from dcrouter.wire.smtp.address import split
from dcrouter.wire.smtp.command import Sender
from dcrouter.wire.smtp.reply import reply
from dcrouter.wire.smtp.said import FULL, TOO_MANY_RECIPIENTS

SENDER_OK = b"250 2.1.0 OK\r\n"
RECIPIENT_OK = b"250 2.1.5 OK\r\n"

ROUTED = b"550 5.7.1 Sender-specified routing is refused\r\n"
ALONE = b"452 4.5.3 This recipient needs a message of its own\r\n"

_NO_ALIASES = b"451 4.3.0 Recipients cannot be looked up now, try again later\r\n"

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-_=")


class Admission:
    """`full`: whether there is no room for so many octets more. `suppressed`: why nothing is sent to an address.
    `bare`: the sender's address that a marked one is for (bounces/marks), None for others. `counters` since the start:
    recipients that were refused, by reason.
    """

    def __init__(
        self,
        email: Email,
        rules: Rules,
        *,
        clock: Any,
        in_thread: InThread,
        ask: Ask,
        full: Callable[[int], bool],
        guards: Guards | None = None,
        suppressed: Callable[[str], str | None] = lambda address: None,
        bare: Callable[[str], str | None] = lambda address: None,
    ) -> None:
        reasons = ("refused", "suppressed", "unknown", "unverified", "limited", "listed", "greylisted")
        self.counters = dict.fromkeys(reasons, 0)
        self._full = full
        self._clock = clock
        self._in_thread = in_thread
        self._aliases: AliasesFile | None = None
        self._guards = guards
        self._bare = bare
        self._existing = Existing(clock, in_thread, ask, suppressed)
        self._quotas = Quotas(clock.seconds)
        self.reload(email, rules)

    def open(self) -> None:
        """What takes long may begin."""
        if self._aliases is not None:
            self._aliases.look()

    def reload(self, email: Email, rules: Rules) -> None:
        """Other rules, from the next command of each client on. Lists that were read and limits that have been used up
        stay so, by the rule's name, where they are the same.
        """
        self._existing.reload(email.rules)
        self._quotas.reload(email.rules)
        self._rules = rules
        self._most = max(email.max_recipients, MAX_TARGETS)
        self._follow(email)
        if self._guards is not None:
            self._guards.reload(email)

    def _follow(self, email: Email) -> None:
        """The file of aliases: the one that is watched, where it is the same."""
        if email.aliases_file is None:
            self._aliases = None
        elif self._aliases is None or self._aliases.path != email.aliases_file:
            self._aliases = AliasesFile(email.aliases_file, email.hostname, self._in_thread, self._clock.seconds)

    def expand(self, address: str) -> tuple[str, ...]:
        """Whom an address stands for, by what is known of aliases now; itself where it is none."""
        if self._aliases is None:
            return (address,)
        self._aliases.look()  # for the next time
        known = self._aliases.value
        return (known.expand(address) if known is not None else None) or (address,)

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
            return Admitted(FULL)
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
        bare = self._bare(address)
        if bare is not None:
            admitted = self.recipient(client, course, bare)
            if isinstance(admitted, Deferred):
                return admitted.addCallback(_asked, address)
            return _asked(admitted, address)
        looking = self._aliases.look() if self._aliases is not None else None
        if looking is not None:
            return looking.addCallback(lambda _: self._recipient(client, course, address))
        return self._recipient(client, course, address)

    def _recipient(self, client: Client, course: Course, address: str) -> Admitted | Deferred[Admitted]:
        decision = self._rules.decide(address, client, course.sender)
        targets = None
        if self._aliases is not None:
            if self._aliases.value is None:
                return self._no(Denial("unverified", _NO_ALIASES, "aliases_file cannot be read"))
            targets = self._aliases.value.expand(decision.address)
        if decision.before or targets is not None:
            return Deferred.fromCoroutine(self._several(client, course, address, decision, targets))
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
            return denial.addCallback(self._take_one, rule, taken, client, course)
        return self._take_one(denial, rule, taken, client, course)

    def _take_one(self, denial: Denial | None, rule: Rule, taken: Accepted, client: Client, course: Course) -> Admitted:
        if denial is None:
            denial = self._quotas.over(rule, course.taken)  # others came meanwhile
        if denial is None:
            denial = self._for_now(client, course, taken.address, ())
        if denial is not None:
            return self._no(denial)
        self._quotas.take(rule.name, course.taken)
        return _taken((taken,), (), course)

    # ------------------------------------------------------------------ the message decides, or there is an alias

    async def _several(
        self, client: Client, course: Course, address: str, decision: Decision, targets: tuple[str, ...] | None
    ) -> Admitted:
        """`targets`: whom the address stands for, None: itself. They meet the rules as from a client that may relay,
        because the operator has named them; whether the client may write to the alias, rules say by its address.
        """
        rules = self._rules
        gate, legs = TAKEN, [decision]
        if targets is not None:
            gate = _choices(decision)
            if taking(gate) is None:
                assert gate[-1].denial is not None
                return self._no(gate[-1].denial)
            relay = evolve(client, trusted=True)
            legs = [rules.decide(target, relay, course.sender) for target in targets]
            if course.count and course.count + len(legs) > self._most:
                return self._no(Denial("limited", TOO_MANY_RECIPIENTS, f"an alias for {len(legs)}: max_recipients"))
        if self._guards is not None and any(taking(_choices(leg)) for leg in legs):
            listed = self._guards.listed(client, address)
            refusal = await listed if isinstance(listed, Deferred) else listed
            if refusal is not None:
                return self._no(Denial("listed", refusal.reply, refusal.why))
        found = []
        for leg in legs:
            choices = await self._leg(client, course, leg, rules)
            if isinstance(choices, Denial):
                return self._no(choices)
            found.append(behind(gate, choices))
        by = [taking(choices) for choices in found]
        if not any(by):
            denial = found[0][-1].denial
            assert denial is not None
            return self._no(denial)
        ends = together(found)
        denial = self._for_now(client, course, decision.address, ends)
        if denial is not None:
            return self._no(denial)
        for choices in found:
            for name in {choice.rule for choice in choices if choice.rule is not None}:
                self._quotas.take(name, course.taken, counts=not rules.asks_message(name))
        asked = ""
        if targets is not None:
            asked = address if "@" in address else decision.address
        recipients = [
            Accepted(leg.address, (one.rule or "") if one else "", choices if _is_open(choices) else (), asked)
            for leg, one, choices in zip(legs, by, found, strict=True)
        ]
        return _taken(tuple(recipients), ends, course)

    async def _leg(self, client: Client, course: Course, decision: Decision, rules: Rules) -> Choices | Denial:
        """What may become of one recipient; a Denial where one of its rules cannot take it for the moment."""
        choices = list(_choices(decision))
        for at, choice in enumerate(choices):
            rule = rules.named(choice.rule) if choice.rule is not None else None
            if rule is not None:
                denial = self._quotas.over(rule, course.taken)
                if denial is None:
                    found = self._existing.denial(rule, decision.address, client)
                    denial = await found if isinstance(found, Deferred) else found
                if denial is not None and denial.temporary:
                    return denial
                if denial is not None:
                    choices[at] = Choice(choice.late, None, denial)
        return tuple(choices)

    def settled(self, ends: Ends) -> None:
        """The message has decided."""
        for name in ends.counted:
            self._quotas.count(name)
        for _, denial in ends.refused:
            self.counters[denial.counter] += 1

    def _for_now(self, client: Client, course: Course, address: str, ends: Choices | None) -> Denial | None:
        """What lets the client come again."""
        if course.count and not client.may_relay and not agree(course.ends, ends):
            return Denial("limited", ALONE, "the message might be refused for it, and not for the first recipient")
        if self._guards is None:
            return None
        refusal = self._guards.greylisted(client, course.sender, address)
        if refusal is not None:
            return Denial("greylisted", refusal.reply, refusal.why)
        if course.tally is not None:
            refusal = self._guards.limits.recipient(client, course.sender, address, course.tally)
            if refusal is not None:
                return Denial("limited", refusal.reply, refusal.why)
        return None

    def _no(self, denial: Denial) -> Admitted:
        self.counters[denial.counter] += 1
        return Admitted(denial.reply, why=denial.why)


def _taken(recipients: tuple[Accepted, ...], ends: Choices | None, course: Course) -> Admitted:
    if not course.count:
        course.ends = ends
    course.count += len(recipients)
    return Admitted(RECIPIENT_OK, recipients)


def _is_open(choices: Choices) -> bool:
    """Whether it is not settled yet that the recipient is taken, or by which rule."""
    return len(choices) > 1 or choices[0].rule is None


def _choices(decision: Decision) -> Choices:
    """What rules make of a recipient, apart from what hangs on them."""
    ends: list[tuple[tuple[Late, ...], Rule | None, Reject | None]]
    ends = [((one.late,), one.rule, one.refusal) for one in decision.before]
    ends.append(((), decision.rule, decision.refusal))
    choices = []
    for late, rule, refusal in ends:
        denial = denied(decision.address, rule, refusal)
        choices.append(Choice(late, rule.name if rule is not None and denial is None else None, denial))
    return tuple(choices)


def _asked(admitted: Admitted, address: str) -> Admitted:
    """The same for who has written another address."""
    return admitted._replace(recipients=tuple(one._replace(asked=address) for one in admitted.recipients))


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
