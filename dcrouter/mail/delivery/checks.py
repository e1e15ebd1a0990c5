"""Active checks of the targets that rules forward to: a greeting and EHLO, or a connect, again and again.

A check goes the way that mail goes (`email.egress`); where only the operator's code knows that, none is made, for it
could show an address that mail does not. What it finds is kept in the target's state, and a target that is up again
wakes the mail that waits for it. `timeout` is for the whole check.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from attrs import evolve
from twisted.internet import tcp
from twisted.internet.defer import Deferred, DeferredSemaphore, TimeoutError, ensureDeferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcrouter.config.health import Health
from dcrouter.errors import TlsError, Unreachable, WireError
from dcrouter.mail.delivery.dial import Dialer
from dcrouter.mail.delivery.egress.egress import Egress
from dcrouter.mail.delivery.egress.passage import Passage
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.mail.delivery.security import Contexts, Session
from dcrouter.mail.delivery.targets import MailTarget, RuleTargets
from dcrouter.net.resolver import Resolver
from dcrouter.wire.probe import SmtpProbe

STEP = 0.005
"""Seconds between the first checks of two targets."""
JITTER = 0.1
AT_ONCE = 64
"""Checks under way: each takes a descriptor that mail could need."""


class Checks:
    """`name`: ours, for EHLO. `recovered` hears the label of a target that is up again."""

    def __init__(
        self,
        name: str,
        resolver: Resolver,
        contexts: Contexts,
        passage: Passage,
        egress: Egress,
        reactor: Any,
        recovered: Callable[[str], None],
    ) -> None:
        self.name = name
        self.resolver = resolver
        self.contexts = contexts
        self.passage = passage
        self.egress = egress
        self.reactor = reactor
        self.recovered = recovered
        self.gate = DeferredSemaphore(AT_ONCE)
        self._watches: dict[tuple[str, NextHop, Health], _Watch] = {}

    def watch(self, rules: Iterable[RuleTargets]) -> None:
        """Those whose rules have active checks, and no others, from now on. What is checked as before goes on."""
        wanted: dict[tuple[str, NextHop, Health], tuple[RuleTargets, MailTarget]] = {}
        for rule in rules:
            health = rule.action.health
            if health is not None and health.type is not None:
                wanted |= {(rule.rule, target.hop, health): (rule, target) for target in rule.all}
        before, self._watches = self._watches, {}
        for key, (rule, target) in wanted.items():
            known = before.pop(key, None)
            if known is not None and known.target.state is target.state:
                self._watches[key] = known
                continue
            if known is not None:
                known.end()
            self._watches[key] = _Watch(self, rule.rule, target, key[2], len(self._watches) * STEP)
        for gone in before.values():
            gone.end()

    def close(self) -> None:
        """No more of them."""
        self.watch(())


class _Watch:
    """One target, until `end`."""

    log = Logger()

    def __init__(self, checks: Checks, rule: str, target: MailTarget, health: Health, delay: float) -> None:
        self.target = target
        self._checks = checks
        self._rule = rule
        self._health = health
        self._asking: Deferred[None] | None = None
        self._ended = False
        target.state.watch()
        self._next: IDelayedCall | None = checks.reactor.callLater(min(delay, health.interval), self._look)

    def end(self) -> None:
        self._ended = True
        self.target.state.unwatch()
        if self._next is not None:
            self._next.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _look(self) -> None:
        self._next = None
        asking: Deferred[None] = self._checks.gate.run(self._ask)
        self._asking = asking
        asking.addErrback(lambda failure: self.log.failure("a check has failed", failure) if not self._ended else None)
        asking.addCallback(self._looked)

    def _looked(self, _: object) -> None:
        self._asking = None
        if not self._ended:
            pause = self._health.interval * random.uniform(1 - JITTER, 1 + JITTER)
            self._next = self._checks.reactor.callLater(pause, self._look)

    def _ask(self) -> Deferred[None]:
        asked = ensureDeferred(self._found())
        asked.addTimeout(self._health.timeout, self._checks.reactor)
        return asked.addCallbacks(self._learn, self._failed)

    def _failed(self, failure: Failure) -> None:
        if self._ended:
            return
        if failure.check(TimeoutError):
            self._learn("check timeout")
        else:
            failure.trap(Unreachable, WireError, TlsError)
            self._learn(str(failure.value))

    async def _found(self) -> str | None:
        """What is wrong, or ""; None: nothing was learnt."""
        checks, hop = self._checks, self.target.hop
        way = await checks.egress.for_checks(hop)
        if way is None:
            return None
        hop = evolve(hop, way=way)
        dialer = Dialer(hop, checks.resolver, checks.reactor, self._health.timeout, checks.passage)
        session = checks.contexts.session(hop) if hop.implicit_tls else None
        probing = self._health.type == "smtp"
        factory = Factory.forProtocol(lambda: _Probing(SmtpProbe(checks.name) if probing else None, session))
        factory.noisy = False
        reached = await dialer.connect(factory)
        try:
            await reached.protocol.done
        finally:
            reached.protocol.leave()
            if reached.proxy is not None:
                reached.proxy.state.leave()
        return ""

    def _learn(self, problem: str | None) -> None:
        state, checks = self.target.state, self._checks
        if problem is None or self._ended:
            return
        now, first = checks.reactor.seconds(), state.since is None
        if problem:
            if state.missed(self._health, problem, now):
                self.log.warn(
                    "target {target} of rule {rule} is down: {reason}",
                    target=self.target.label,
                    rule=self._rule,
                    reason=state.reason,
                )
        elif state.passed(self._health, now) and not first:
            self.log.info("target {target} of rule {rule} is up again", target=self.target.label, rule=self._rule)
            checks.recovered(self.target.label)


@implementer(IHandshakeListener)
class _Probing(Protocol):
    """`done` fires when the target is well, or fails with what is wrong."""

    transport: Any

    def __init__(self, probe: SmtpProbe | None, session: Session | None) -> None:
        self.done: Deferred[None] = Deferred()
        self._probe = probe
        self._session = session

    def connectionMade(self) -> None:
        if self._session is not None:
            self.transport.startTLS(self._session)
        elif self._probe is None:
            self._end(None)

    def handshakeCompleted(self) -> None:
        """Nothing was said before it."""
        assert self._session is not None
        try:
            self._session.check(self.transport)
        except TlsError as error:
            self._end(error)
            return
        if self._probe is None:
            self._end(None)

    def dataReceived(self, data: bytes) -> None:
        if self._probe is None or self.done.called:
            return
        try:
            words = self._probe.feed(data)
        except WireError as error:
            self._end(error)
            return
        if words is None:
            self.transport.write(self._probe.farewell)
            self._end(None)
        elif words:
            self.transport.write(words)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        problem = self._session.problem if self._session is not None else None
        words = "closed without an answer" if reason.check(ConnectionClosed) else reason.getErrorMessage()
        self._end(WireError(problem or words))

    def leave(self) -> None:
        """The connection is closed; in clear, behind what was said last. TLS would wait for the target's farewell."""
        if self._session is None and isinstance(self.transport, tcp.Connection):
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()

    def _end(self, error: Exception | None) -> None:
        if self.done.called:
            return
        if error is None:
            self.done.callback(None)
        else:
            self.done.errback(Failure(error))
