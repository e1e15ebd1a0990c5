"""`mta`: a message on its way to the exchangers of its recipients' domains, in the lane that its zone and they make.

1. Recipients of one zone go together; of those, such as share their exchangers share a transaction, unless the domain
   of some has an entry of its own among `destinations`. What is paused waits, or fails.
2. For each group there is a course (course.py): hosts and sources, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, succeed

from dcrouter.config.rules import Mta
from dcrouter.mail.bounces.suppression import refusal
from dcrouter.mail.delivery.course import Course, Stage
from dcrouter.mail.delivery.destinations import Destinations
from dcrouter.mail.delivery.egress.egress import Egress, Leg, Legs
from dcrouter.mail.delivery.exchange import Finder, Group, ascii_or_as_it_is, grouped
from dcrouter.mail.delivery.exchangers import Exchanger
from dcrouter.mail.delivery.nexthop import WELCOME, NextHop
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Failed, Outcome
from dcrouter.mail.delivery.requiretls import NOT_AUTHENTIC, is_authentic, is_strict, verified
from dcrouter.mail.delivery.sending import Hear
from dcrouter.mail.envelope import Recipient
from dcrouter.mail.message import Message
from dcrouter.mail.queue.parts import together
from dcrouter.mail.shaping.shaping import Shaping
from dcrouter.wire.smtp.address import split

Send = Callable[[Message, Sequence[int], Course], Deferred[list[Outcome]]]
"""Recipients by their place in the message, and whom to try; one outcome for each."""

Marked = Callable[[Message, Recipient], Message | None]


class Outbound:
    """`send` has a message sent to the first destination that takes it. `mx_port`: where exchangers listen.
    `suppressed`: why nothing is sent to an address. `marked`: the message with a sender that is of this recipient only,
    None where it has none. `hear` is told what has come of some recipients, while others are under way.
    """

    def __init__(
        self,
        shaping: Shaping,
        destinations: Destinations,
        egress: Egress,
        exchangers: Finder,
        mx_port: int,
        send: Send,
        suppressed: Callable[[str], str | None],
        marked: Marked,
        hear: Hear,
    ) -> None:
        self.exchangers = exchangers
        self.suppressed = suppressed
        self._marked = marked
        self._hear = hear
        self._egress = egress
        self._shaping = shaping
        self._limits = shaping.limits
        self._destinations = destinations
        self._mx_port = mx_port
        self._send = send

    def attempt(self, message: Message, action: Mta) -> Deferred[list[Outcome]]:
        """One outcome for each recipient, in order."""
        recipients = message.envelope.recipients
        zones: dict[str, list[int]] = {}
        sent: list[Deferred[list[Outcome]]] = []
        parts: list[list[int]] = []
        for number, one in enumerate(recipients):
            why = self.suppressed(one.address)
            marked = self._marked(message, one) if why is None else None
            if marked is not None:
                zone = self._limits.zone_name(action.zone or one.zone)
                sent.append(self._of_zone(marked, [0], zone))
                parts.append([number])
            elif why is None:
                zones.setdefault(self._limits.zone_name(action.zone or one.zone), []).append(number)
            else:
                sent.append(succeed([Failed(refusal(one.address, why))]))
                parts.append([number])
        for zone, numbers in zones.items():
            sent.append(self._of_zone(message, numbers, zone))
            parts.append(numbers)
        return together(message, range(len(recipients)), parts, sent, self._hear)

    def _of_zone(self, message: Message, numbers: list[int], zone: str) -> Deferred[list[Outcome]]:
        pause = self._shaping.zone_pause(zone)
        if pause is not None:
            return succeed([self._shaping.postponed(pause)] * len(numbers))
        return self._to_domains(message, numbers, zone)

    def _to_domains(self, message: Message, numbers: list[int], zone: str) -> Deferred[list[Outcome]]:
        addresses = [message.envelope.recipients[number].address for number in numbers]
        groups = grouped(addresses, self.exchangers, self._limits.domain)
        return groups.addCallback(self._to_groups, message, numbers, zone)

    def _to_groups(
        self, groups: list[Group], message: Message, numbers: list[int], zone: str
    ) -> Deferred[list[Outcome]]:
        places = [[numbers[at] for at in group.numbers] for group in groups]
        sent = [self._to_group(group, message, own, zone) for group, own in zip(groups, places, strict=True)]
        return together(message, numbers, places, sent, self._hear)

    def _to_group(self, group: Group, message: Message, numbers: list[int], zone: str) -> Deferred[list[Outcome]]:
        if isinstance(group.exchangers, Later | Failed):
            return succeed([group.exchangers] * len(numbers))
        exchangers = group.exchangers
        strict = is_strict(message)
        if strict:
            exchangers = tuple(filter(is_authentic, exchangers))
            if not exchangers:
                return succeed([Failed(NOT_AUTHENTIC)] * len(numbers))
        optional = message.envelope.terms.tls_optional
        hops = [self.hop(one, group.domain, optional=optional) for one in exchangers]
        legs = [
            Leg(verified(hop) if strict else hop, exchanger.addresses)
            for hop, exchanger in zip(hops, exchangers, strict=True)
        ]
        if not self._egress.rules.some:
            return self._travel(Legs(numbers, tuple(legs)), message, group.domain, zone)

        def sent(found: list[Legs]) -> Deferred[list[Outcome]]:
            parts = [self._travel(part, message, group.domain, zone) for part in found]
            return together(message, numbers, [part.numbers for part in found], parts, self._hear)

        return self._egress.legs(message, numbers, legs, zone).addCallback(sent)

    def _travel(self, part: Legs, message: Message, entry: str, zone: str) -> Deferred[list[Outcome]]:
        """`entry`: the recipients' domain, where it has an entry of its own, or ""."""
        if part.undecided:
            return succeed([Later(f"4.3.5 {part.undecided}")] * len(part.numbers))
        first = part.numbers[0]
        domain = self._domain_of(message, first)
        course = Course(
            self._shaping,
            self._destinations.to,
            message=message.id,
            kept=message.envelope.recipients[first].source,
            zone=zone,
            domain=entry,
            stages=[self.stage(leg, domain, entry) for leg in part.legs],
        )
        closed = course.closed()
        if closed is not None:
            return succeed([closed] * len(part.numbers))
        return self._send(message, part.numbers, course).addCallback(course.ended)

    def stage(self, leg: Leg, domain: str, entry: str) -> Stage:
        """`domain`: of the recipients; `entry`: the same, where it has an entry of its own, or ""."""
        host = leg.hop.host or ""
        names = [bearing.name for bearing in self._limits.bearings(host, leg.hop.target, entry)]
        gates = tuple(dict.fromkeys([*names, f"host {leg.hop.target}"]))
        return Stage(leg=leg, gates=gates, provider=self._limits.provider(host) or domain)

    def hop(self, exchanger: Exchanger, domain: str, *, optional: bool = False) -> NextHop:
        """`optional`: the sender would rather have it delivered than protected; what the operator wants still holds
        (RFC 8689 4.1).
        """
        security = WELCOME if optional else exchanger.security
        return NextHop(
            host=exchanger.host,
            port=self._mx_port,
            tls=security.tls if security.tls == "required" else self._limits.tls(exchanger.host, domain),
            dane=security.dane,
            tested=security.tested,
        )

    def _domain_of(self, message: Message, number: int) -> str:
        return ascii_or_as_it_is(split(message.envelope.recipients[number].address)[1].lower())
