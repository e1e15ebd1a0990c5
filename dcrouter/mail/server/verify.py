"""Who exists, by asking a rule's target (`verify: {ask: target}`): an SMTP dialogue that ends behind RCPT.

1. An answer is remembered: that somebody exists for `cache`, that somebody does not for an hour at most, that it could
   not be told for a minute. Nothing is kept over a restart.
2. Only a reply about the mailbox itself says that there is none (5.1.x, 5.2.1, or 550, 551, 553 without an enhanced
   code). Whatever else a target says or does not say is "not known": the client may come again.
3. A dictionary attack must not become ours on the target: one question for an address at a time, a few at a time and
   so many a minute for each rule, and fewer for each stranger. Beyond that nobody is asked, and the answer is "not
   known".

RFC 5321 3.3, RFC 3463 3.2 (X.1.X) and 3.3 (X.2.1).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container
from enum import Enum
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.config.patterns import split, whole
from dcrouter.config.rates import Rate
from dcrouter.config.rules import Deliver, MailForward, Rule
from dcrouter.errors import DcrouterError, Unreachable
from dcrouter.mail.delivery.nexthop import NextHop, hops_of
from dcrouter.mail.envelope import Client
from dcrouter.match.addresses import count_key
from dcrouter.net.limits import Bucket, Buckets
from dcrouter.wire.smtp.reply import Reply

MAX_ANSWERS = 100_000
"""That are remembered, about 300 bytes each; beyond, the one that was needed the longest ago is forgotten."""

NEGATIVE = 3600.0
"""Seconds at most for which somebody does not exist: a new mailbox gets its mail within the hour."""

UNKNOWN = 60.0
"""Seconds for which a target that gave no answer about an address is not asked about it again."""

PATIENCE = 30.0
"""Seconds for one answer, the wait for its turn included: a client waits for it at RCPT, and gives five minutes."""

AT_ONCE = 8
"""Questions of one rule under way."""

WAITING = 200
"""Questions of one rule that wait for their turn."""

RULE_RATE = Rate(rate=(1200, 60.0), burst=200)
"""Questions of one rule, whoever makes us ask."""

STRANGER_RATE = Rate(rate=(30, 60.0), burst=100)
"""Questions that one stranger (an IPv6 one by its /64) makes us ask: a message with a hundred new recipients passes."""

Ask = Callable[[Rule, str], Deferred[Reply]]
"""What the rule's targets say to RCPT for an address. Fails, with DcrouterError, where none of them could be asked that
far; may be cancelled."""


class Verdict(Enum):
    """UNKNOWN: it could not be told."""

    EXISTS = "exists"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class _Kept(NamedTuple):
    verdict: Verdict
    until: float


class _Line:
    """Of one rule: who is asking now, and how often that was."""

    __slots__ = ("bucket", "turns")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.turns = DeferredSemaphore(AT_ONCE)
        self.bucket = Bucket(RULE_RATE, clock)


class Verifier:
    """`asked`: questions that were put to targets so far. `clock`: the reactor, whose seconds are monotonic."""

    _log = Logger()

    def __init__(self, ask: Ask, clock: Any) -> None:
        self.asked = 0
        self._ask = ask
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._under_way: dict[tuple[str, str], list[Deferred[Verdict]]] = {}
        self._lines: dict[str, _Line] = {}
        self._strangers = Buckets(STRANGER_RATE, clock.seconds)

    def forget(self, rules: Container[str]) -> None:
        """What the targets of these rules have said: they are others now."""
        for key in [key for key in self._kept if key[0] in rules]:
            del self._kept[key]

    def verdict(self, rule: Rule, address: str, client: Client) -> Verdict | Deferred[Verdict]:
        """On an address that `rule` takes, which has `verify`. The Deferred never fails."""
        key = (rule.name, whole(*split(address)))
        kept = self._kept.get(key)
        if kept is not None:
            if kept.until > self._clock.seconds():
                self._kept.move_to_end(key)
                return kept.verdict
            del self._kept[key]
        waiting = self._under_way.get(key)
        if waiting is None:
            line = self._lines.get(rule.name)
            if line is None:
                line = self._lines[rule.name] = _Line(self._clock.seconds)
            if not self._may_ask(line, client):
                return Verdict.UNKNOWN
            waiting = self._under_way[key] = []
            self._begin(key, line, rule, address)
            if key not in self._under_way:
                return self._kept[key].verdict
        done: Deferred[Verdict] = Deferred()
        waiting.append(done)
        return done

    def _may_ask(self, line: _Line, client: Client) -> bool:
        if len(line.turns.waiting) >= WAITING or line.bucket.wait():
            return False
        if not client.may_relay and not self._strangers.take(count_key(client.address)):
            return False
        return line.bucket.take()

    def _begin(self, key: tuple[str, str], line: _Line, rule: Rule, address: str) -> None:
        asking: Deferred[Reply] = line.turns.run(self._put, rule, address)
        asking.addTimeout(PATIENCE, self._clock)
        verdict: Deferred[Verdict] = asking.addCallbacks(_verdict_of, self._unanswered, errbackArgs=(rule,))
        answered = verdict.addCallback(self._answered, key, rule)
        answered.addErrback(lambda failure: self._log.failure("rule {rule}", failure, rule=rule.name))

    def _put(self, rule: Rule, address: str) -> Deferred[Reply]:
        self.asked += 1
        return self._ask(rule, address)

    def _unanswered(self, failure: Failure, rule: Rule) -> Verdict:
        """A target that is down, or too slow."""
        if failure.check(DcrouterError, TookTooLong):
            reason = "no answer in time" if failure.check(TookTooLong) else failure.getErrorMessage()
            self._log.info("rule {rule}: a recipient cannot be verified: {reason}", rule=rule.name, reason=reason)
        else:
            self._log.failure("rule {rule}: a recipient cannot be verified", failure, rule=rule.name)
        return Verdict.UNKNOWN

    def _answered(self, verdict: Verdict, key: tuple[str, str], rule: Rule) -> None:
        assert rule.verify is not None
        seconds = {
            Verdict.EXISTS: rule.verify.cache,
            Verdict.ABSENT: min(rule.verify.cache, NEGATIVE),
            Verdict.UNKNOWN: min(rule.verify.cache, UNKNOWN),
        }[verdict]
        self._kept[key] = _Kept(verdict, self._clock.seconds() + seconds)
        while len(self._kept) > MAX_ANSWERS:
            self._kept.popitem(last=False)
        for waiter in self._under_way.pop(key):
            waiter.callback(verdict)


def _verdict_of(reply: Reply) -> Verdict:
    if reply.code < 300:
        return Verdict.EXISTS
    if reply.code < 500:
        return Verdict.UNKNOWN
    enhanced = reply.enhanced
    if enhanced is None:
        return Verdict.ABSENT if reply.code in (550, 551, 553) else Verdict.UNKNOWN
    absent = enhanced.startswith("5.1.") and enhanced not in _ABOUT_SENDERS
    return Verdict.ABSENT if absent or enhanced == "5.2.1" else Verdict.UNKNOWN


_ABOUT_SENDERS = frozenset({"5.1.7", "5.1.8"})


def asked_hops(rule: Rule) -> tuple[NextHop, ...]:
    """Whom a rule with `verify` asks: where its mail goes."""
    return hops_of(rule.action) if isinstance(rule.action, MailForward | Deliver) else ()


def in_turn(ask: Callable[[NextHop, str], Deferred[Reply]], hops: Callable[[Rule], tuple[NextHop, ...]]) -> Ask:
    """An `Ask` that goes from one of a rule's next hops to the next where one cannot be reached."""

    async def one_of(rule: Rule, address: str) -> Reply:
        failed: DcrouterError = Unreachable(f"rule {rule.name} has no server to ask")
        for hop in hops(rule):
            try:
                return await ask(hop, address)
            except DcrouterError as error:
                failed = error
        raise failed

    return lambda rule, address: Deferred.fromCoroutine(one_of(rule, address))
