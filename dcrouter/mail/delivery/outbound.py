"""`mta`: a message on its way to the exchangers of its recipients' domains, in the lane that its zone and they make.

1. Recipients of one zone go together; of those, such as share their exchangers share a transaction, unless the domain
   of some has an entry of its own among `destinations`.
2. The exchangers are tried in their order, those that were just found down last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, gatherResults, succeed

from dcrouter.config.rules import Mta
from dcrouter.mail.bounces.suppression import refusal
from dcrouter.mail.delivery.destination import Destination
from dcrouter.mail.delivery.egress.egress import Leg
from dcrouter.mail.delivery.exchange import Finder, Group, grouped
from dcrouter.mail.delivery.exchangers import Exchanger
from dcrouter.mail.delivery.nexthop import WELCOME, NextHop
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Failed, Outcome
from dcrouter.mail.delivery.requiretls import NOT_AUTHENTIC, is_authentic, is_strict
from dcrouter.mail.message import Message
from dcrouter.mail.shaping.lane import Lane
from dcrouter.mail.shaping.limits import Limits

MAX_EXCHANGERS = 5
"""Hosts of a domain that one attempt tries; the others have their turn when these are known to be down."""

Ordered = Callable[[list[Destination]], list[Destination]]
"""Which of several destinations to try, best first."""

Send = Callable[[Message, Sequence[int], Sequence[Leg], Ordered, Lane], Deferred[list[Outcome]]]
"""Recipients by their place in the message, and whom to try; one outcome for each."""


class Outbound:
    """`send` has a message sent to the first destination that takes it. `mx_port`: where exchangers listen.
    `suppressed`: why nothing is sent to an address.
    """

    def __init__(
        self, limits: Limits, exchangers: Finder, mx_port: int, send: Send, suppressed: Callable[[str], str | None]
    ) -> None:
        self.exchangers = exchangers
        self._suppressed = suppressed
        self._limits = limits
        self._mx_port = mx_port
        self._send = send

    def attempt(self, message: Message, action: Mta) -> Deferred[list[Outcome]]:
        """One outcome for each recipient, in order."""
        recipients = message.envelope.recipients
        zones: dict[str, list[int]] = {}
        sent: list[Deferred[list[Outcome]]] = []
        parts: list[list[int]] = []
        for number, one in enumerate(recipients):
            why = self._suppressed(one.address)
            if why is None:
                zones.setdefault(self._limits.zone_name(action.zone or one.zone), []).append(number)
            else:
                sent.append(succeed([Failed(refusal(one.address, why))]))
                parts.append([number])
        for zone, numbers in zones.items():
            sent.append(self._to_domains(message, numbers, zone))
            parts.append(numbers)
        return sent[0] if len(sent) == 1 else gatherResults(sent).addCallback(_in_order, parts)

    def _to_domains(self, message: Message, numbers: list[int], zone: str) -> Deferred[list[Outcome]]:
        addresses = [message.envelope.recipients[number].address for number in numbers]
        groups = grouped(addresses, self.exchangers, self._limits.domain)
        return groups.addCallback(self._to_groups, message, numbers, zone)

    def _to_groups(
        self, groups: list[Group], message: Message, numbers: list[int], zone: str
    ) -> Deferred[list[Outcome]]:
        sent = [self._to_group(group, message, [numbers[at] for at in group.numbers], zone) for group in groups]
        if len(groups) == 1:
            return sent[0]
        return gatherResults(sent).addCallback(_in_order, [group.numbers for group in groups])

    def _to_group(self, group: Group, message: Message, numbers: list[int], zone: str) -> Deferred[list[Outcome]]:
        if isinstance(group.exchangers, Later | Failed):
            return succeed([group.exchangers] * len(numbers))
        exchangers = group.exchangers
        if is_strict(message):
            exchangers = tuple(filter(is_authentic, exchangers))
            if not exchangers:
                return succeed([Failed(NOT_AUTHENTIC)] * len(numbers))
        lane = Lane(zone=zone, domain=group.domain)
        optional = message.envelope.terms.tls_optional
        legs = [Leg(self._hop(one, group.domain, optional=optional), one.addresses) for one in exchangers]
        return self._send(message, numbers, legs, _best, lane)

    def _hop(self, exchanger: Exchanger, domain: str, *, optional: bool) -> NextHop:
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


def _best(destinations: list[Destination]) -> list[Destination]:
    if len(destinations) > 1:
        destinations.sort(key=lambda destination: destination.down)
    return destinations[:MAX_EXCHANGERS]


def _in_order(lists: list[list[Outcome]], numbers: list[list[int]]) -> list[Outcome]:
    by_number = {
        number: outcome
        for own, outcomes in zip(numbers, lists, strict=True)
        for number, outcome in zip(own, outcomes, strict=True)
    }
    return [by_number[number] for number in range(len(by_number))]
