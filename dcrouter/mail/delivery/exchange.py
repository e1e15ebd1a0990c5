"""The recipients of one message by the exchangers that take their mail: who shares those shares a transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred as TwistedDeferred
from twisted.internet.defer import DeferredSemaphore, gatherResults

from dcrouter.mail.delivery.exchangers import Exchange, Exchanger, ascii_domain
from dcrouter.mail.delivery.nexthop import Security
from dcrouter.mail.delivery.outcome import Deferred, Failed
from dcrouter.wire.smtp.address import split

AT_ONCE = 20
"""Domains of one message that are asked about at once."""


class Group(NamedTuple):
    """Recipients by number. `exchangers`: whom to try, in order, or what becomes of them instead. `domain`: theirs,
    where it has an entry of its own, else "".
    """

    exchangers: tuple[Exchanger, ...] | Deferred | Failed
    numbers: list[int]
    domain: str = ""


class Finder(Protocol):
    """Who knows the exchangers of a domain."""

    def of(self, domain: str) -> TwistedDeferred[Exchange]: ...


def grouped(
    addresses: Sequence[str], exchangers: Finder, entry: Callable[[str], str] = lambda domain: ""
) -> TwistedDeferred[list[Group]]:
    """Every recipient is in one group. `entry`: a domain, if it has an entry of its own, else "". Never fails."""
    domains: dict[str, list[int]] = {}
    for number, address in enumerate(addresses):
        domains.setdefault(split(address)[1].lower(), []).append(number)
    entries = [entry(ascii_or_as_it_is(domain)) for domain in domains]
    if len(domains) == 1:
        ((domain, numbers),) = domains.items()
        return exchangers.of(domain).addCallback(lambda found: [Group(found, numbers, entries[0])])
    gate = DeferredSemaphore(AT_ONCE)
    asked: TwistedDeferred[list[Exchange]] = gatherResults([gate.run(exchangers.of, domain) for domain in domains])
    return asked.addCallback(_merged, list(domains.values()), entries)


def _merged(found: list[Exchange], numbers: list[list[int]], entries: list[str]) -> list[Group]:
    """Equal exchangers may be in another order: they are shuffled."""
    groups: list[Group] = []
    same: dict[tuple[str, frozenset[tuple[int, str, Security]]], Group] = {}
    for exchange, own, entry in zip(found, numbers, entries, strict=True):
        if not isinstance(exchange, Deferred | Failed):
            key = (entry, frozenset((one.preference, one.host, one.security) for one in exchange))
            if key in same:
                same[key].numbers.extend(own)
                continue
            same[key] = Group(exchange, own, entry)
            groups.append(same[key])
        else:
            groups.append(Group(exchange, own, entry))
    return groups


def ascii_or_as_it_is(domain: str) -> str:
    """A domain as A-labels; what cannot be one stays."""
    try:
        return ascii_domain(domain)
    except ValueError:
        return domain
