"""All next hops of one mail process, made when first needed, forgotten when too many are of no use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dcrouter.config.through import Proxy
from dcrouter.errors import Unreachable
from dcrouter.mail.delivery.body import Content, NextPiece, SpoolFile
from dcrouter.mail.delivery.checks import Checks
from dcrouter.mail.delivery.destination import Destination
from dcrouter.mail.delivery.dial import Dialer
from dcrouter.mail.delivery.egress.egress import Egress, Leg
from dcrouter.mail.delivery.egress.passage import Passage
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.mail.delivery.outcome import Peer, Postponed
from dcrouter.mail.delivery.patience import Patience
from dcrouter.mail.delivery.security import Contexts
from dcrouter.mail.delivery.seen import Observe
from dcrouter.mail.delivery.sending import Trouble
from dcrouter.mail.shaping.lane import Lane
from dcrouter.mail.shaping.limits import Limits
from dcrouter.mail.shaping.pauses import ALL
from dcrouter.net.resolver import Resolver
from dcrouter.wire.smtp.client import Transaction
from dcrouter.wire.smtp.reply import Reply

MANY = 2000
"""Next hops that are known; at twice as many, those that nothing is known of but their name are forgotten."""


class Destinations:
    """`name`: ours, for EHLO. `ca_files`: path -> PEM. `recovered`: hears the target of a next hop that answers again,
    or takes mail again that it was too slow for. `limits`: how many connections there may be, and what they carry.
    `seen` hears of sessions with exchangers.
    """

    def __init__(
        self,
        name: str,
        resolver: Resolver,
        reactor: Any,
        patience: Patience,
        *,
        ca_files: Mapping[str, bytes],
        recovered: Callable[[str], None],
        limits: Limits | None = None,
        seen: Observe | None = None,
    ) -> None:
        self._name = name
        self._resolver = resolver
        self._reactor = reactor
        self._patience = patience
        self._recovered = recovered
        self._seen = seen
        self._contexts = Contexts(ca_files)
        self.passage = Passage(resolver, self._contexts, reactor, self._proxy_back)
        self.limits = limits or Limits(reactor, recovered)
        self._known: dict[tuple[NextHop, Lane | None], Destination] = {}
        self._retired: list[Destination] = []
        self._many = 2 * MANY

    def reload(self, ca_files: Mapping[str, bytes], down: float) -> None:
        """Other authorities, and seconds for which a next hop that was found down is left alone."""
        self.believe(ca_files)
        self._retire()
        self._patience = evolve(self._patience, down=down)
        for destination in self._known.values():
            destination.patience = self._patience

    def believe(self, ca_files: Mapping[str, bytes]) -> None:
        """Other authorities, for sessions that begin from now on."""
        self._contexts.reload(ca_files)

    def of(self, hop: NextHop, lane: Lane | None = None) -> Destination:
        """`lane` None: a rule names the next hop."""
        destination = self._known.get((hop, lane))
        if destination is None:
            if len(self._known) >= self._many:
                self._forget()
            source, name = (lane.source, lane.name) if lane is not None else ("", "")
            destination = self._known[hop, lane] = Destination(
                hop,
                Dialer(hop, self._resolver, self._reactor, self._patience.connect, self.passage, source),
                name=name or self._name,
                contexts=self._contexts,
                gates=self.limits.gates(hop, lane),
                recovered=self._recovered,
                reactor=self._reactor,
                patience=self._patience,
                seen=None if lane is None else self._seen,
            )
        return destination

    def to(self, leg: Leg, lane: Lane | None = None) -> Destination:
        """The server that this leads to, with the addresses that are known of it; `lane` as of `of`."""
        destination = self.of(leg.hop, lane)
        if leg.addresses is not None:
            destination.dialer.addresses = leg.addresses
            destination.dialer.named = not leg.one_of_them
        return destination

    def verify(self, leg: Leg, address: str) -> Deferred[Reply]:
        """What a next hop says to RCPT for an address, by a dialogue that sends nothing; where it refuses MAIL, 421 or
        a 450 of ours. Fails with Unreachable. May be cancelled.
        """
        question = Question(address)
        self.to(leg).send(question)
        return question.answer

    def checks(self, egress: Egress) -> Checks:
        """Checks of targets, by the same means as mail goes to them."""
        return Checks(self._name, self._resolver, self._contexts, self.passage, egress, self._reactor, self._checked_up)

    def _checked_up(self, target: str) -> None:
        for destination in self._known.values():
            if destination.target == target:
                destination.try_again()
        self._recovered(target)

    def try_all(self) -> None:
        """Whoever was found down may be back: an operator wants to know now."""
        for destination in self._known.values():
            destination.try_again()

    def stand_still(self, outcome: Postponed, what: str) -> None:
        """What waits in memory for a lane that has something to do with `what` (as in a pause) waits no more."""
        for (hop, lane), destination in list(self._known.items()):
            if lane is None:
                continue
            names = (ALL, f"source {lane.source}", f"host {hop.target}")
            if what in names or any(gate.name == what for gate in destination.gates.all):
                destination.stand_still(outcome)

    def close(self) -> None:
        self.passage.proxies.close()
        for destination in (*self._known.values(), *self._retired):
            destination.close()
        self.limits.close()

    def _retire(self) -> None:
        """Those that have other gates now serve what they have, and nothing that comes."""
        self._retired = [one for one in self._retired if not one.quiet]
        for hop, lane in list(self._known):
            destination = self._known[hop, lane]
            if lane is not None and self.limits.gates(hop, lane).all != destination.gates.all:
                self._retired.append(self._known.pop((hop, lane)))

    def _proxy_back(self, proxy: Proxy) -> None:
        for destination in (*self._known.values(), *self._retired):
            if proxy in destination.hop.way.proxies:
                destination.proxy_back()

    def _forget(self) -> None:
        for key in [key for key, destination in self._known.items() if destination.quiet]:
            del self._known[key]
        self._many = max(2 * MANY, len(self._known) + MANY)


class Question:
    """A recipient that is asked about: a transaction without a message."""

    octets: bytes | None = b""
    dotless = False

    def __init__(self, address: str) -> None:
        self.transaction = Transaction("", (address,), 0, eightbit=False, question=True, smtputf8=not address.isascii())
        self.content: Content = self
        self._parted = False
        self.answer: Deferred[Reply] = Deferred(lambda _: None)

    def pieces(self) -> NextPiece:
        raise AssertionError("a question has no content")

    def file(self) -> SpoolFile | None:
        return None

    def finished(self, replies: tuple[Reply, ...], peer: Peer) -> None:
        if not self.answer.called:
            self.answer.callback(replies[0])

    def answered(self, replies: tuple[Reply | None, ...], peer: Peer) -> None:
        """Nobody asks about two recipients at once."""

    def unanswered(self, replies: tuple[Reply | None, ...], reason: str, peer: Peer) -> None:
        self.unreachable(Trouble(peer.target, reason))

    def parted(self, reply: str) -> bool:
        """It is asked once more."""
        first, self._parted = not self._parted, True
        return first

    def refused(self, replies: tuple[Reply | None, ...], peer: Peer) -> None:
        """One recipient's refusal is the answer."""

    @property
    def ticket(self) -> object:
        return self

    def postponed(self, outcome: Postponed) -> None:
        self.unreachable(Trouble(outcome.target, outcome.reply))

    def unreachable(self, trouble: Trouble) -> None:
        if not self.answer.called:
            self.answer.errback(Failure(Unreachable(f"{trouble.target}: {trouble.reason}")))
