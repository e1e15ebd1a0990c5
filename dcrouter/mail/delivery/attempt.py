"""One attempt at the recipients of a message that share a rule: where the rule sends them, and what became of each.

1. The rule is looked up now, not when the message came: fix a target, and its mail flows. A rule that is gone holds it.
2. `forward`: the rule's targets in the order of its balance, those that were just found down last. At most `retries`
   others after the first.
3. `mta`: the exchangers of each recipient's domain (outbound.py).
4. `deliver`: an LMTP server, or a file per recipient, written in a few threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from dcrouter.config.mail import Email
from dcrouter.config.rules import Deliver, MailForward, Mta, Reject, Rule
from dcrouter.errors import reason_of
from dcrouter.mail.delivery import maildir
from dcrouter.mail.delivery.content import StoredContent
from dcrouter.mail.delivery.destination import Destination
from dcrouter.mail.delivery.destinations import Destinations
from dcrouter.mail.delivery.egress.egress import Egress, Leg, Legs
from dcrouter.mail.delivery.exchange import Finder
from dcrouter.mail.delivery.exchangers import SMTP_PORT
from dcrouter.mail.delivery.explaining import Explainer
from dcrouter.mail.delivery.forwarding import MAX_RECIPIENTS, Forwarding
from dcrouter.mail.delivery.held import held, with_held
from dcrouter.mail.delivery.nexthop import NextHop, hops_of
from dcrouter.mail.delivery.outbound import Marked, Outbound
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Delivered, Failed, Held, Outcome
from dcrouter.mail.delivery.patience import Patience
from dcrouter.mail.delivery.requiretls import is_strict, verified
from dcrouter.mail.delivery.seen import Observe
from dcrouter.mail.delivery.sending import Hear
from dcrouter.mail.delivery.targets import MailTargets, RuleTargets
from dcrouter.mail.message import Message, spool_path
from dcrouter.mail.pipeline.rules import Rules
from dcrouter.mail.queue.budget import Bodies
from dcrouter.mail.queue.parts import part_for, together
from dcrouter.mail.shaping.shaping import Shaping
from dcrouter.mail.shaping.zones import Zones
from dcrouter.net.resolver import Resolver
from dcrouter.wire.smtp.reply import Reply

Ordered = Callable[[list[Destination]], list[Destination]]
"""Which of several destinations to try, best first."""

THREADS = 4
"""That write and read files: fsync is what they wait for, and four of them wait for one disk well."""


class Attempts:
    """Tries messages for the queue. `start` and `close` frame its threads.

    `ca_files`: path -> PEM of every `ca` of a rule. `recovered` hears of a next hop that is back. `mx_port`: where
    exchangers listen. `seen` hears of sessions with them, `hear` of recipients whose part of an attempt is over first.
    """

    def __init__(
        self,
        rules: Rules,
        store: Bodies,
        state_dir: Path,
        email: Email,
        reactor: Any,
        patience: Patience,
        *,
        shaping: Shaping,
        resolver: Resolver,
        exchangers: Finder,
        ca_files: Mapping[str, bytes],
        recovered: Callable[[str], None],
        mx_port: int = SMTP_PORT,
        seen: Observe | None = None,
        suppressed: Callable[[str], str | None] = lambda address: None,
        marked: Marked = lambda message, recipient: None,
        hear: Hear = lambda message, outcomes: None,
    ) -> None:
        hostname = email.hostname
        self.destinations = Destinations(
            hostname,
            resolver,
            reactor,
            patience,
            ca_files=ca_files,
            recovered=recovered,
            limits=shaping.limits,
            seen=seen,
        )
        shaping.stands_still = lambda pause: self.destinations.stand_still(shaping.postponed(pause), pause.what)
        shaping.reload(email)
        self._shaping = shaping
        self.egress = Egress(email.egress, resolver, self.destinations.passage.proxies, reactor, time.time)
        self._hear = hear
        self._rules = rules
        self._store = store
        self._state_dir = state_dir
        self._hostname = hostname
        self._reactor = reactor
        self._outbound = Outbound(
            shaping, self.destinations, self.egress, exchangers, mx_port, self._send, suppressed, marked, hear
        )
        self._files = ThreadPool(0, THREADS, "mail-files")
        self._targets = MailTargets(reactor.seconds)
        self._targets.reload(email.rules)
        self._checks = self.destinations.checks(self.egress)

    def start(self) -> None:
        self._files.start()
        self._checks.watch(self._targets.all())

    def status(self) -> dict[str, Any]:
        """Of proxies and targets, JSON-ready."""
        return {"egress": self.egress.status(), "targets": self._targets.status()}

    def reload(
        self, email: Email, rules: Rules, exchangers: Finder, ca_files: Mapping[str, bytes], down: float
    ) -> None:
        """For attempts that begin from now on; next hops, their connections and what is known of them stay."""
        self._rules = rules
        self._outbound.exchangers = exchangers
        self._targets.reload(email.rules)
        self._shaping.reload(email)
        self.egress.reload(email.egress)
        self.destinations.reload(ca_files, down)
        self._checks.watch(self._targets.all())

    def break_off(self) -> None:
        """Ends every connection: what was on its way ends as deferred."""
        self._checks.close()
        self.destinations.close()

    def close(self) -> None:
        """Ends the threads, after what they are at; blocks for as long as that takes."""
        if self._files.started:
            self._files.stop()

    def attempt(self, message: Message) -> Deferred[list[Outcome]]:
        """One outcome for each recipient, in order; they share their rule. Never fails."""
        recipients = message.envelope.recipients
        name = recipients[0].rule
        rule = self._rules.named(name)
        if rule is None:
            return succeed([Held(f"no rule named {name}")] * len(recipients))
        action = rule.action
        if isinstance(action, Reject):
            said = f"{action.code} {action.message}"
            return succeed([Failed(said) if action.code >= 500 else Later(said)] * len(recipients))
        waiting = held(message, self._shaping)
        if not waiting:
            return self._leave(message, rule)
        others = tuple(one for place, one in enumerate(recipients) if place not in waiting)
        left = self._leave(part_for(message, others), rule) if others else succeed([])
        return left.addCallback(lambda outcomes: with_held(waiting, outcomes))

    def _leave(self, message: Message, rule: Rule) -> Deferred[list[Outcome]]:
        """Nothing speaks against their leaving now."""
        recipients = message.envelope.recipients
        action, name = rule.action, rule.name
        assert not isinstance(action, Reject)
        if isinstance(action, Deliver) and action.maildir is not None:
            return self._deliver(message, action.maildir)
        if isinstance(action, Mta):
            return self._outbound.attempt(message, action)
        if isinstance(action, MailForward):
            return self._forward(message, self._targets.of(name))
        legs = [Leg(hop) for hop in hops_of(action)]
        return self._by_ways(message, range(len(recipients)), legs, lambda destinations: destinations)

    def explainer(self, zones: Zones) -> Explainer:
        """Who tells how mail would leave now."""
        return Explainer(self._shaping, self._outbound, self.egress, self._rules, zones)

    def verify(self, hop: NextHop, address: str) -> Deferred[Reply]:
        """What a next hop says to RCPT for an address, see Destinations."""
        if not self.egress.rules.some:
            return self.destinations.verify(Leg(hop), address)
        asked = ensureDeferred(self.egress.leg_to_ask(hop, address))
        return asked.addCallback(self.destinations.verify, address)

    # ------------------------------------------------------------------ to other servers

    def _send(
        self, message: Message, numbers: Sequence[int], destinations: Iterable[Destination]
    ) -> Deferred[list[Outcome]]:
        """Recipients by their place in the message; one outcome for each. `destinations`: as often as it is asked."""
        content = StoredContent(message, self)
        if len(numbers) <= MAX_RECIPIENTS:
            return Forwarding(message, content, numbers, destinations, self._reactor, self._hear).start()
        places = [numbers[at : at + MAX_RECIPIENTS] for at in range(0, len(numbers), MAX_RECIPIENTS)]
        parts = [Forwarding(message, content, own, destinations, self._reactor, self._hear).start() for own in places]
        return together(message, numbers, places, parts, self._hear)

    def _by_ways(
        self,
        message: Message,
        numbers: Sequence[int],
        legs: Sequence[Leg],
        ordered: Ordered,
    ) -> Deferred[list[Outcome]]:
        """To the servers of `legs`, which a rule names, the way that `email.egress` decides for each recipient.
        `ordered`: which of the destinations to try, best first.
        """
        if is_strict(message):
            legs = [leg._replace(hop=verified(leg.hop)) for leg in legs]
        if not self.egress.rules.some:
            return self._send(message, numbers, ordered([self.destinations.to(leg) for leg in legs]))

        def sent(found: list[Legs]) -> Deferred[list[Outcome]]:
            parts = [self._send_part(message, one, ordered) for one in found]
            return together(message, numbers, [one.numbers for one in found], parts, self._hear)

        return self.egress.legs(message, numbers, legs).addCallback(sent)

    def _send_part(self, message: Message, part: Legs, ordered: Ordered) -> Deferred[list[Outcome]]:
        if part.undecided:
            return succeed([Later(f"4.3.5 {part.undecided}")] * len(part.numbers))
        return self._send(message, part.numbers, ordered([self.destinations.to(leg) for leg in part.legs]))

    def _forward(self, message: Message, targets: RuleTargets) -> Deferred[list[Outcome]]:
        chosen = targets.order()
        recipients = range(len(message.envelope.recipients))
        if not chosen:
            return succeed([Later(f"4.4.1 {targets.why_none()}", targets.all[0].label)] * len(recipients))
        if targets.plain:
            return self._by_ways(message, recipients, [chosen[0].leg], targets.best)
        tried: list[Destination] = []

        def best(destinations: list[Destination]) -> list[Destination]:
            found = targets.best(destinations)
            tried.extend(found)
            return found

        def done(outcomes: list[Outcome]) -> list[Outcome]:
            chosen[0].state.leave()
            targets.observe(tried)
            return outcomes

        chosen[0].state.enter()
        return self._by_ways(message, recipients, [one.leg for one in chosen], best).addCallback(done)

    # ------------------------------------------------------------------ deliver

    def _deliver(self, message: Message, template: str) -> Deferred[list[Outcome]]:
        if message.octets is None and not message.spooled:
            count = len(message.envelope.recipients)
            read: Deferred[Any] = self._store.octets(message)
            read.addCallback(lambda octets: self._write(message, octets, template))
            return read.addErrback(lambda failure: [Later(f"4.3.0 {failure.getErrorMessage()}")] * count)
        return self._write(message, message.octets, template)

    def _write(self, message: Message, octets: bytes | None, template: str) -> Deferred[list[Outcome]]:
        source = spool_path(self._store.spool, message.id) if message.spooled else None
        deliveries = [
            maildir.Delivery(
                message=message,
                octets=octets,
                address=one.address,
                number=one.number,
                directory=maildir.maildir_path(template, one.address, self._state_dir),
                hostname=self._hostname,
                source=source,
            )
            for one in message.envelope.recipients
        ]
        return self.in_thread(_write_all, deliveries)

    def in_thread(self, call: Any, *args: Any) -> Deferred[Any]:
        """Runs a call that waits for the disk."""
        return deferToThreadPool(self._reactor, self._files, call, *args)

    def stored(self, message: Message) -> Deferred[bytes]:
        """The octets of a message that is not spooled."""
        return self._store.octets(message)

    def spool_directory(self) -> Path:
        return self._store.spool


def _write_all(deliveries: list[maildir.Delivery]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for delivery in deliveries:
        try:
            outcomes.append(Delivered("delivered to Maildir", str(delivery.write().parent.parent)))
        except OSError as error:
            outcomes.append(Later(f"4.3.0 {reason_of(error)}", str(delivery.directory)))
    return outcomes
