"""The ways of mail: what `email.egress`, and code that it names, say of each recipient and each server at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from attrs import evolve
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from dcrouter.config.egress import EgressRule
from dcrouter.config.names import is_address
from dcrouter.config.plain import egress_rules_from_plain
from dcrouter.config.zones import DEFAULT
from dcrouter.errors import Unreachable
from dcrouter.interfaces import Departure
from dcrouter.mail.delivery.egress.asking import Asking, NoAnswer
from dcrouter.mail.delivery.egress.proxies import Proxies
from dcrouter.mail.delivery.egress.rules import Conditions, EgressRules
from dcrouter.mail.delivery.egress.way import DIRECT, Undecided, Way
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.mail.message import Message
from dcrouter.net.resolver import Resolver


class Leg(NamedTuple):
    """A server to be tried, with the addresses that are known of it (None: its name is to be resolved). `one_of_them`:
    the way is for these addresses and not for the name.
    """

    hop: NextHop
    addresses: tuple[str, ...] | None = None
    one_of_them: bool = False


class Legs(NamedTuple):
    """Recipients by their place in the message, and the servers to try for them, in order; or why there are none."""

    numbers: list[int]
    legs: tuple[Leg, ...]
    undecided: str = ""


class Egress:
    """Of one mail process. `clock`: UTC epoch seconds."""

    _log = Logger()

    def __init__(
        self,
        rules: Sequence[EgressRule],
        resolver: Resolver,
        proxies: Proxies,
        reactor: Any,
        clock: Callable[[], float],
    ) -> None:
        self.asking = Asking(reactor)
        self._resolver = resolver
        self._proxies = proxies
        self._clock = clock
        self.reload(rules)

    def reload(self, rules: Sequence[EgressRule]) -> None:
        """For connections from now on; what is known of proxies that are still named stays."""
        self.rules = EgressRules(rules, self._clock)
        self._proxies.name(self.rules.proxies)
        self.asking.reload(frozenset(rule.select for rule in rules if rule.select is not None and rule.enabled))

    def status(self) -> dict[str, Any]:
        """Counters since the start, JSON-ready: as Proxies, and `select` of each callable."""
        asked = self.asking.status()
        return {**self._proxies.status(), **({"select": asked} if asked else {})}

    def explain(self, departure: Departure, addresses: Sequence[str] = ()) -> dict[str, Any]:
        """What decides about a connection and why (`EgressRules.explain`), and with `down` why its proxies do not work
        now. Where `addresses` have ways of their own, that of the first, and all of them as `by_address`.
        """
        if not self.rules.asks_addresses or not addresses:
            return self._explain(departure)
        by_address = {one: self._explain(evolve(departure, address=one)) for one in addresses}
        told = by_address[addresses[0]]
        return told if all(one == told for one in by_address.values()) else {**told, "by_address": by_address}

    def _explain(self, departure: Departure) -> dict[str, Any]:
        told = self.rules.explain(departure)
        rule = self.rules.first(departure)
        if rule is not None and self._proxies.down(rule.way):
            told["down"] = self._proxies.why_none(rule.way)
        return told

    def legs(
        self, message: Message, numbers: Sequence[int], legs: Sequence[Leg], zone: str | None = None
    ) -> Deferred[list[Legs]]:
        """Who of these recipients goes which ways to these servers. `zone`: of all of them, None: each has its own."""
        return ensureDeferred(self._legs(message, numbers, legs, zone))

    async def way(self, departure: Departure) -> Way | Undecided:
        """How that connection is made."""
        behind = -1
        while True:
            rule = self.rules.first(departure, behind)
            if rule is None:
                return DIRECT
            if rule.rule.select is None:
                return rule.way
            chosen = await self._chosen(rule, rule.rule.select, departure)
            if chosen is not None:
                return chosen
            behind = rule.number

    async def for_checks(self, hop: NextHop) -> Way | None:
        """As EgressRules; None also where its name has no addresses that would have to be known."""
        assert hop.host is not None
        addresses: tuple[str, ...] | tuple[None] = (None,)
        if self.rules.asks_addresses:
            try:
                addresses = await self._addresses(hop.host)
            except Unreachable:
                return None
        ways = {self.rules.for_checks(Departure(host=hop.host, port=hop.port, address=one)) for one in addresses}
        return ways.pop() if len(ways) == 1 else None

    async def leg_to_ask(self, hop: NextHop, recipient: str) -> Leg:
        """How a server is connected to that is asked about a recipient. Unreachable."""
        found = await self._of_one(Departure(host=hop.host or "", port=hop.port, recipient=recipient), Leg(hop))
        for one in found:
            if isinstance(one, Leg):
                return one
        raise Unreachable(found[0].reason if isinstance(found[0], Undecided) else "nowhere")

    # Inside.

    async def _legs(
        self, message: Message, numbers: Sequence[int], legs: Sequence[Leg], zone: str | None
    ) -> list[Legs]:
        recipients = message.envelope.recipients
        together: dict[tuple[Leg | Undecided, ...], list[int]] = {}
        asked = numbers if self.rules.asks_recipients else numbers[:1]
        for number in asked:
            one = recipients[number]
            departure = Departure(
                host="",
                port=0,
                local=one.source or None,
                zone=zone or one.zone or DEFAULT,
                recipient=one.address,
                message=message.name,
                attempts=one.attempts,
            )
            found: list[Leg | Undecided] = []
            for leg in legs:
                found += await self._of_one(departure, leg)
            together.setdefault(tuple(found), []).append(number)
        if len(asked) < len(numbers):
            together = {found: list(numbers) for found in together}
        return [_told(found, own) for found, own in together.items()]

    async def _of_one(self, departure: Departure, leg: Leg) -> list[Leg | Undecided]:
        """One server: several where its addresses have ways of their own."""
        hop = leg.hop
        if hop.host is None or hop.lmtp:
            return [leg]
        departure = evolve(departure, host=hop.host, port=hop.port)
        if not self.rules.asks_addresses:
            way = await self.way(departure)
            return [way if isinstance(way, Undecided) else leg._replace(hop=evolve(hop, way=way))]
        try:
            addresses = leg.addresses or await self._addresses(hop.host)
        except Unreachable as error:
            return [Undecided(f"{hop.target}: {error}")]
        ways: dict[Way | Undecided, list[str]] = {}
        for address in addresses:
            ways.setdefault(await self.way(evolve(departure, address=address)), []).append(address)
        return [
            way if isinstance(way, Undecided) else Leg(evolve(hop, way=way), tuple(own), one_of_them=len(ways) > 1)
            for way, own in ways.items()
        ]

    async def _addresses(self, host: str) -> tuple[str, ...]:
        return (host,) if is_address(host) else await self._resolver.addresses(host)

    async def _chosen(self, rule: Conditions, name: str, departure: Departure) -> Way | Undecided | None:
        """What the code says; None: the rules behind decide."""
        try:
            answer = await self.asking.ask(name, departure)
        except NoAnswer as error:
            if rule.rule.on_failure == "direct":
                self._log.warn(
                    "message {message} to {target}: straight, for {name} does not say how: {reason}",
                    message=departure.message,
                    target=departure.host,
                    name=name,
                    reason=str(error),
                )
                return DIRECT
            return Undecided(f"egress: {name} does not say how to connect: {error}")
        if answer.get("endpoint") is not None:
            return Way(endpoint=str(answer["endpoint"]))
        if answer.get("direct"):
            return DIRECT
        if answer.get("rules") is None:
            return None
        rules = egress_rules_from_plain(answer["rules"])
        if not answer.get("whole"):
            rules = tuple(evolve(one, on_failure=rule.rule.on_failure) for one in rules)
        found = EgressRules(rules, self._clock).first(departure)
        return found.way if found is not None else None


def _told(found: tuple[Leg | Undecided, ...], numbers: list[int]) -> Legs:
    legs = tuple(one for one in found if isinstance(one, Leg))
    reasons = dict.fromkeys(one.reason for one in found if isinstance(one, Undecided))
    return Legs(numbers, legs, "" if legs else "; ".join(reasons))
