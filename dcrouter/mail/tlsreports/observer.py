"""What is seen of a session with an exchanger, counted for the domains that want to be told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dns.rdatatype import RdataType
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dcrouter.errors import Unreachable
from dcrouter.mail.delivery.exchangers import ascii_domain
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.mail.delivery.seen import Seen
from dcrouter.mail.tlsreports.counts import Counts
from dcrouter.net.resolver import Resolver
from dcrouter.wire import mtasts
from dcrouter.wire.tlsrpt import FailureKind, FailureType, Policy, addresses_of


class Observer:
    """`held`: the MTA-STS policy of a domain that is known, without asking anybody."""

    _log = Logger()

    def __init__(self, resolver: Resolver, counts: Counts, held: Callable[[str], mtasts.Policy | None]) -> None:
        self._resolver = resolver
        self._counts = counts
        self._held = held

    def seen(self, domains: Iterable[str], seen: Seen) -> None:
        """A session that carries, or should have carried, mail for these domains."""
        kind = None
        if seen.failure is not None:
            kind = FailureKind(
                type=seen.failure,
                host=seen.hop.host or "",
                address=seen.address,
                ours=seen.ours,
                reason=seen.reason[:200],
            )
        for domain in domains:
            self._note(domain, seen.hop, kind)

    def unfetched(self, domain: str, failure: FailureType, reason: str) -> None:
        """The MTA-STS policy of a domain cannot be had."""
        self._note(domain, None, FailureKind(type=failure, reason=reason[:200]))

    def _note(self, domain: str, hop: NextHop | None, failure: FailureKind | None) -> None:
        try:
            name = ascii_domain(domain)
        except ValueError:
            return
        noted = Deferred.fromCoroutine(self._count(name, self._policy(name, hop), failure))
        noted.addErrback(lambda failed: self._log.failure("a TLS session is not counted", failed))

    async def _count(self, domain: str, policy: Policy, failure: FailureKind | None) -> None:
        if await wanted_at(self._resolver, domain):
            self._counts.add(domain, policy, failure)

    def _policy(self, domain: str, hop: NextHop | None) -> Policy:
        if hop is None:
            return Policy(type="sts", domain=domain)
        if hop.dane is not None:
            lines = tuple(f"{one.usage} {one.selector} {one.matching} {one.data.hex()}" for one in hop.dane.records)
            return Policy(type="tlsa", domain=domain, lines=lines, hosts=(hop.host or "",))
        held = self._held(domain)
        if held is not None and held.mode != "none":
            return Policy(type="sts", domain=domain, lines=held.lines, hosts=held.mx)
        return Policy(type="no-policy-found", domain=domain)


async def wanted_at(resolver: Any, domain: str) -> tuple[str, ...]:
    """The URIs where a domain wants its reports, none where it wants none or nobody knows (RFC 8460 3)."""
    try:
        answer = await resolver.records(f"_smtp._tls.{domain}", RdataType.TXT)
    except Unreachable:
        return ()
    return addresses_of([b"".join(record.strings).decode("latin-1") for record in answer.records])
