"""The exchangers of a domain, each with what a session with it must have.

1. DANE where DNSSEC vouches for the exchangers and their addresses: TLSA records make TLS a must, and say with whom.
   Where nobody can tell whether there are any, that exchanger is left out, and never spoken to in clear.
2. Else MTA-STS: only exchangers that the policy covers, with a certificate for their names; in testing, as before.
3. Else as `destinations` has it, which may also say that 1 or 2 are not asked for.

RFC 7672 2, RFC 8461 4 and 5 (DANE first: section 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import evolve
from dns.rdtypes.ANY.TLSA import TLSA
from twisted.internet.defer import Deferred as TwistedDeferred
from twisted.internet.defer import DeferredList, succeed
from twisted.python.failure import Failure

from dcrouter.mail.delivery.exchange import Finder
from dcrouter.mail.delivery.exchangers import SMTP_PORT, Exchange, Exchanger, ascii_domain
from dcrouter.mail.delivery.nexthop import Dane, Security
from dcrouter.mail.delivery.outcome import Deferred, Failed
from dcrouter.net.resolver import Resolver
from dcrouter.tls.dane import Tlsa, usable
from dcrouter.wire.mtasts import Policy


class Sts(Protocol):
    async def of(self, domain: str) -> Policy | None: ...


class Policies:
    """`obeyed`: whether DANE and MTA-STS are, by an exchanger's name and the domain of a recipient."""

    def __init__(
        self, exchangers: Finder, resolver: Resolver, sts: Sts, obeyed: Callable[[str, str], tuple[bool, bool]]
    ) -> None:
        self._exchangers = exchangers
        self._resolver = resolver
        self._sts = sts
        self._obeyed = obeyed

    def of(self, domain: str) -> TwistedDeferred[Exchange]:
        """For the domain of a recipient, as in its address. Never fails; may be cancelled."""
        return TwistedDeferred.fromCoroutine(self._of(domain))

    async def _of(self, domain: str) -> Exchange:
        found = await self._exchangers.of(domain)
        if isinstance(found, Deferred | Failed) or domain[:1] == "[":
            return found
        name = ascii_domain(domain)
        obeyed = [self._obeyed(one.host, name) for one in found]
        asked: list[TwistedDeferred[Dane | None]] = [
            self._tlsa(one, name) if one.secure and dane else succeed(None)
            for one, (dane, _) in zip(found, obeyed, strict=True)
        ]
        answers: list[Dane | Failure | None] = [result for _, result in await DeferredList(asked, consumeErrors=True)]
        plain = any(answer is None and sts for answer, (_, sts) in zip(answers, obeyed, strict=True))
        policy = await self._sts.of(name) if plain else None
        left: list[Exchanger] = []
        reasons: list[str] = []
        for one, (_, sts), answer in zip(found, obeyed, answers, strict=True):
            if isinstance(answer, Failure):
                reasons.append(f"{one.host}: its TLSA records cannot be had: {answer.getErrorMessage()}")
            elif answer is not None:
                left.append(evolve(one, security=Security(tls="required", dane=answer)))
            elif policy is None or not sts:
                left.append(one)
            elif policy.mode == "testing":
                left.append(evolve(one, security=Security(tested=True)))
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
