"""The exchangers of a domain, each with what a session with it must have.

1. DANE where DNSSEC vouches for the exchangers and their addresses: TLSA records make TLS a must, and say with whom.
   Where nobody can tell whether there are any, that exchanger is left out, and never spoken to in clear.
2. Else MTA-STS: only exchangers that the policy covers, with a certificate for their names; in testing, as before.
3. Else what `destinations` says of the domain; unless it says that nobody is to be asked for 1 or 2.

RFC 7672 2, RFC 8461 4 and 5 (DANE first: section 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import evolve, frozen
from dns.rdtypes.ANY.TLSA import TLSA
from twisted.internet.defer import Deferred as TwistedDeferred
from twisted.internet.defer import DeferredList, succeed
from twisted.python.failure import Failure

from dcrouter.config.rules import OutboundTls
from dcrouter.mail.delivery.exchange import Finder
from dcrouter.mail.delivery.exchangers import SMTP_PORT, Exchange, Exchanger, ascii_domain
from dcrouter.mail.delivery.nexthop import Dane, Security
from dcrouter.mail.delivery.outcome import Deferred, Failed
from dcrouter.net.resolver import Resolver
from dcrouter.tls.dane import Tlsa, usable
from dcrouter.wire.mtasts import Policy


@frozen(kw_only=True)
class Wanted:
    """What the operator wants of sessions with an exchanger: `tls` at least, and whether the domain is asked."""

    tls: OutboundTls = "opportunistic"
    dane: bool = True
    mta_sts: bool = True


class Sts(Protocol):
    async def of(self, domain: str) -> Policy | None: ...


class Policies:
    """`wanted`: by the domain of a recipient and an exchanger's name."""

    def __init__(self, exchangers: Finder, resolver: Resolver, sts: Sts, wanted: Callable[[str, str], Wanted]) -> None:
        self._exchangers = exchangers
        self._resolver = resolver
        self._sts = sts
        self._wanted = wanted

    def of(self, domain: str) -> TwistedDeferred[Exchange]:
        """For the domain of a recipient, as in its address. Never fails; may be cancelled."""
        return TwistedDeferred.fromCoroutine(self._of(domain))

    async def _of(self, domain: str) -> Exchange:
        found = await self._exchangers.of(domain)
        if isinstance(found, Deferred | Failed) or domain[:1] == "[":
            return found
        name = ascii_domain(domain)
        wanted = [self._wanted(name, one.host) for one in found]
        asked: list[TwistedDeferred[Dane | None]] = [
            self._tlsa(one, name) if one.secure and want.dane else succeed(None)
            for one, want in zip(found, wanted, strict=True)
        ]
        answers: list[Dane | Failure | None] = [result for _, result in await DeferredList(asked, consumeErrors=True)]
        plain = any(answer is None and want.mta_sts for answer, want in zip(answers, wanted, strict=True))
        policy = await self._sts.of(name) if plain else None
        left: list[Exchanger] = []
        reasons: list[str] = []
        for one, want, answer in zip(found, wanted, answers, strict=True):
            if isinstance(answer, Failure):
                reasons.append(f"{one.host}: its TLSA records cannot be had: {answer.getErrorMessage()}")
            elif answer is not None:
                left.append(evolve(one, security=Security(tls="required", dane=answer)))
            elif policy is None or not want.mta_sts:
                left.append(evolve(one, security=Security(tls=want.tls)))
            elif policy.mode == "testing":
                left.append(evolve(one, security=Security(tls=want.tls, tested=True)))
            elif policy.covers(one.host):
                left.append(evolve(one, security=Security(tls="required")))
            else:
                reasons.append(f"{one.host}: the MTA-STS policy of {name} does not name it")
        if left:
            return tuple(left)
        return Deferred(f"4.7.5 {'; '.join(reasons)}")

    def _tlsa(self, exchanger: Exchanger, domain: str) -> TwistedDeferred[Dane | None]:
        return TwistedDeferred.fromCoroutine(self._dane(exchanger, domain))

    async def _dane(self, exchanger: Exchanger, domain: str) -> Dane | None:
        """None where there are no records that DNSSEC vouches for; fails with Unreachable where nobody can tell."""
        bases = dict.fromkeys((exchanger.alias or exchanger.host, exchanger.host))
        for base in bases:
            answer = await self._resolver.tlsa(f"_{SMTP_PORT}._tcp.{base}")
            if answer.secure and answer.records:
                names = tuple(dict.fromkeys((base, exchanger.host, domain)))
                return Dane(records=usable(map(_record, answer.records)), names=names)
        return None


def _record(record: TLSA) -> Tlsa:
    return Tlsa(record.usage, record.selector, record.mtype, bytes(record.cert))
