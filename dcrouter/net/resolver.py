"""Names for the mail process, and for the parent: mail exchangers and addresses, from DNS and /etc/hosts.

1. An answer in the cache is given at once; a question that is under way already is shared.
2. Others are asked (`dns/asking`), so many at once; more wait for their turn.
3. A CNAME that leads out of a response is a question of its own, as often as MAX_CHAIN.

Every method gives a Deferred that may be cancelled. Its failures are NoSuchName (NXDOMAIN, or no name at all),
NoAddress, and Unreachable for what may be different later.
"""

from __future__ import annotations

from collections import deque
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.exception
import dns.name
from attrs import evolve, frozen
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.TLSA import TLSA
from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail, succeed
from twisted.python.failure import Failure

from dcrouter.config.resolver import AddressOrder
from dcrouter.config.resolver import Resolver as ResolverConfig
from dcrouter.errors import NoAddress, NoSuchName, Unreachable
from dcrouter.net.dns.asking import Asking
from dcrouter.net.dns.cache import FAILURE, LONGEST, LONGEST_DENIAL, SHORTEST, Cache
from dcrouter.net.dns.files import Watched, parse_hosts
from dcrouter.net.dns.message import MAX_CHAIN, Answer, Question, text_of
from dcrouter.net.dns.servers import PORT, Servers
from dcrouter.wire.hostname import host_name

MAX_ASKING = 200
"""Questions under way at once; each has a socket for every server that it has tried."""

MAX_WAITING = 20_000
"""Questions that wait for their turn; more fail at once, as temporary as everything else."""

HOSTS = 5.0
"""Seconds for which what /etc/hosts says is believed."""

_FAMILIES: dict[AddressOrder, tuple[RdataType, ...]] = {
    "ipv4-first": (RdataType.A, RdataType.AAAA),
    "ipv6-first": (RdataType.AAAA, RdataType.A),
    "ipv4": (RdataType.A,),
    "ipv6": (RdataType.AAAA,),
}


@frozen(kw_only=True)
class MxAnswer:
    """`hosts`: (preference, name) in order of preference; empty: the domain exists without MX. Null MX is (0, "").

    `domain`: at the end of its CNAMEs. `secure`: DNSSEC-valid, as a trusted server says.
    """

    domain: str
    hosts: tuple[tuple[int, str], ...]
    secure: bool


@frozen(kw_only=True)
class TlsaAnswer:
    """`records` as they stand; `ttl`: seconds for which they may be remembered. `secure`: as of MxAnswer."""

    records: tuple[TLSA, ...]
    ttl: float
    secure: bool


@frozen(kw_only=True)
class Resolved:
    """`addresses` of a host as `resolver.addresses` orders them, never empty. `seconds`: for how long they may be
    believed. `missing`: families (RdataType.A, AAAA) of which nobody could tell whether there are any.
    `name`: at the end of its CNAMEs; `secure`: all of it is DNSSEC-valid, as a trusted server says.
    """

    addresses: tuple[str, ...]
    seconds: float
    missing: tuple[RdataType, ...] = ()
    name: str = ""
    secure: bool = False


class Resolver:
    """`counters`: questions, of them `cached` and `shared`; `sent` datagrams; `failed` to get an answer.

    `resolv_conf` and `hosts`: where the system has them; `port`: of the servers of the first. `denial`: seconds for
    which it is believed at most that there is nothing.
    """

    def __init__(
        self,
        config: ResolverConfig,
        reactor: Any,
        *,
        resolv_conf: Path = Path("/etc/resolv.conf"),
        hosts: Path = Path("/etc/hosts"),
        port: int = PORT,
        denial: float = LONGEST_DENIAL,
    ) -> None:
        self.counters = {"questions": 0, "cached": 0, "shared": 0, "sent": 0, "failed": 0}
        self._families = _FAMILIES[config.addresses]
        self._timeout = config.timeout
        self._reactor = reactor
        self._servers = Servers(config, reactor.seconds, resolv_conf, port)
        self._hosts = Watched(hosts, parse_hosts, reactor.seconds)
        self._cache = Cache(reactor.seconds, denial=denial)
        self._shared: dict[Question, _Shared] = {}
        self._waiting: deque[_Shared] = deque()
        self._asking = 0
        self._starting = False
        self._closed = False

    def mx(self, domain: str) -> Deferred[MxAnswer]:
        """The exchangers of a domain; no addresses, and no implicit one where it has none."""

        def read(answer: Answer) -> MxAnswer:
            return MxAnswer(domain=answer.name, hosts=tuple(answer.exchangers), secure=answer.secure)

        return self._look_up(domain, RdataType.MX).addCallback(read)

    def at(self, name: str) -> Deferred[tuple[str, ...]]:
        """The IPv4 addresses at just this name; none where there is no such name. For DNS lists (RFC 5782)."""

        def nothing(failure: Failure) -> tuple[str, ...]:
            failure.trap(NoSuchName)
            return ()

        def read(answer: Answer) -> tuple[str, ...]:
            return tuple(record.to_text() for record in answer.records)

        return self._look_up(name, RdataType.A).addCallbacks(read, nothing)

    def tlsa(self, name: str) -> Deferred[TlsaAnswer]:
        """The TLSA records at `name`, such as `_25._tcp.mail.example.com`; none where there is no such name."""

        def read(answer: Answer) -> TlsaAnswer:
            return TlsaAnswer(records=answer.of(TLSA), ttl=answer.ttl, secure=answer.secure)

        def nothing(failure: Failure) -> TlsaAnswer:
            failure.trap(NoSuchName)
            return TlsaAnswer(records=(), ttl=0.0, secure=False)

        return self._look_up(name, RdataType.TLSA).addCallbacks(read, nothing)

    def records(self, name: str, kind: RdataType) -> Deferred[Answer]:
        """Whatever there is at a name of any characters, each standing for an octet; no records: the name exists
        without them.
        """
        try:
            return self._answer(Question(host_name(name.encode("latin-1")), kind))
        except ValueError:
            pass
        try:
            labels = [label.encode("latin-1") for label in name.lower().removesuffix(".").split(".")]
            question = Question(text_of(dns.name.Name([*labels, b""])), kind)
        except (ValueError, dns.exception.DNSException) as error:
            return fail(NoSuchName(f"{name!r}: {error}"))
        return self._answer(question)

    def addresses(self, host: str) -> Deferred[tuple[str, ...]]:
        """The addresses of a host as `resolver.addresses` orders them, never empty."""
        return self.resolve(host).addCallback(lambda resolved: resolved.addresses)

    def resolve(self, host: str) -> Deferred[Resolved]:
        """The same, and how long they may be believed.

        /etc/hosts comes first, and `localhost` needs no server (RFC 6761 6.3). A name without final dot may be short
        for one in the domains that resolv.conf says to search.
        """
        try:
            return succeed(Resolved(addresses=(str(ip_address(host.strip("[]"))),), seconds=HOSTS))
        except ValueError:
            pass
        name = host.lower().removesuffix(".")
        known = self._hosts.get().get(name)
        if known is None and (name == "localhost" or name.endswith(".localhost")):
            known = ("127.0.0.1", "::1")
        own = self._ordered(known) if known else ()
        if own:
            return succeed(Resolved(addresses=own, seconds=HOSTS))
        names = [name] if host.endswith(".") else self._servers.names_of(name)
        return Deferred.fromCoroutine(self._first_of(names))

    def status(self) -> dict[str, int]:
        """The counters, by names that can stand beside others."""
        return {f"dns_{name}": count for name, count in self.counters.items()}

    def close(self) -> None:
        """Ends what is under way, as Unreachable; later questions fail likewise."""
        self._closed = True
        self._waiting.clear()
        for shared in list(self._shared.values()):
            shared.give_up()

    # ------------------------------------------------------------------ addresses

    async def _first_of(self, names: list[str]) -> Resolved:
        problem: Unreachable | None = None
        for name in names:
            try:
                return await self._all_addresses(name)
            except (NoSuchName, NoAddress) as error:
                problem = problem or error
        assert problem is not None
        raise problem

    async def _all_addresses(self, name: str) -> Resolved:
        """One family that answers is enough; where none has an address, all must have said so."""
        asked = DeferredList([self._look_up(name, family) for family in self._families], consumeErrors=True)
        found: list[str] = []
        problems: list[BaseException] = []
        missing: list[RdataType] = []
        answers: list[Answer] = []
        seconds = LONGEST
        for family, (_, result) in zip(self._families, await asked, strict=True):
            if isinstance(result, Failure):
                assert result.value is not None
                problems.append(result.value)
                if not isinstance(result.value, NoSuchName):
                    missing.append(family)
                    seconds = min(seconds, FAILURE)
            else:
                answers.append(result)
                found += [record.to_text() for record in result.records]
                seconds = min(seconds, max(result.ttl, SHORTEST))
        if found:
            return Resolved(
                addresses=tuple(found),
                seconds=seconds,
                missing=tuple(missing),
                name=answers[0].name,
                secure=all(answer.secure for answer in answers),
            )
        for problem in sorted(problems, key=lambda one: isinstance(one, NoSuchName)):
            raise problem
        raise NoAddress(f"{name} has no address")

    def _ordered(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the families that are wanted, in their order."""
        return tuple(
            address
            for family in self._families
            for address in addresses
            if (":" in address) == (family == RdataType.AAAA)
        )

    # ------------------------------------------------------------------ questions

    def _look_up(self, name: str, kind: RdataType) -> Deferred[Answer]:
        try:
            question = Question(host_name(name.encode("ascii", "replace")), kind)
        except ValueError as error:
            return fail(NoSuchName(f"{name!r}: {error}"))
        return self._answer(question)

    def _answer(self, question: Question) -> Deferred[Answer]:
        said = self._cache.get(question)
        if isinstance(said, Answer) and not said.alias:
            self.counters["questions"] += 1
            self.counters["cached"] += 1
            return _as_result(question, said)
        return Deferred.fromCoroutine(self._chase(question))

    async def _chase(self, first: Question) -> Answer:
        question, secure, ttl = first, True, LONGEST
        for _ in range(MAX_CHAIN):
            answer = await self._ask(question)
            secure, ttl = secure and answer.secure, min(ttl, answer.ttl)
            if not answer.alias:
                return await _as_result(first, evolve(answer, secure=secure, ttl=ttl))
            try:
                question = Question(host_name(answer.name.encode("ascii", "replace")), first.type)
            except ValueError as error:
                raise NoSuchName(f"{first.name} is an alias of {answer.name!r}: {error}") from error
        raise Unreachable(f"DNS: the {first} is behind a CNAME chain without end")

    def _ask(self, question: Question) -> Deferred[Answer]:
        self.counters["questions"] += 1
        said = self._cache.get(question)
        if said is not None:
            self.counters["cached"] += 1
            return succeed(said) if isinstance(said, Answer) else fail(Unreachable(said))
        if self._closed:
            return fail(Unreachable(f"DNS: the {question} was not asked, the service stops"))
        shared = self._shared.get(question)
        if shared is not None:
            self.counters["shared"] += 1
        elif len(self._waiting) >= MAX_WAITING:
            return fail(Unreachable(f"DNS: the {question} was not asked, too many questions wait"))
        else:
            shared = self._shared[question] = _Shared(question, self)
            self._waiting.append(shared)
            answer = shared.join()
            self._start_waiting()
            return answer
        return shared.join()

    def _start_waiting(self) -> None:
        if self._starting:
            return  # one that fails at once has brought us here again
        self._starting = True
        while self._waiting and self._asking < MAX_ASKING:
            shared = self._waiting.popleft()
            if not shared.over:
                self._asking += 1
                shared.start(Asking(shared.question, self._servers.order(), self._reactor, self._timeout))
        self._starting = False

    def ended(self, shared: _Shared, asking: Asking | None, result: Answer | Failure) -> None:
        """For `_Shared`: the answer is there, or nobody wants it any more."""
        self._shared.pop(shared.question, None)
        if isinstance(result, Answer):
            self._cache.put(shared.question, result)
        elif result.check(Unreachable) and asking is not None:
            self.counters["failed"] += 1
            self._cache.put(shared.question, result.getErrorMessage())
        if asking is not None:
            self.counters["sent"] += asking.sent
            self._asking -= 1
            self._start_waiting()


class _Shared:
    """One question that somebody waits for, and perhaps somebody else too."""

    def __init__(self, question: Question, resolver: Resolver) -> None:
        self.question = question
        self.over = False
        self._resolver = resolver
        self._waiters: list[Deferred[Answer]] = []
        self._asking: Asking | None = None

    def join(self) -> Deferred[Answer]:
        waiter: Deferred[Answer] = Deferred(self._leave)
        self._waiters.append(waiter)
        return waiter

    def start(self, asking: Asking) -> None:
        self._asking = asking
        asking.answer.addBoth(self._end)
        asking.start()

    def give_up(self) -> None:
        self._end(Failure(Unreachable(f"DNS: the {self.question} has no answer, the service stops")))
        if self._asking is not None:
            self._asking.answer.cancel()

    def _leave(self, waiter: Deferred[Answer]) -> None:
        """One waiter was cancelled; with the last one the question ends."""
        if self.over:
            return  # by whoever heard the answer just before
        self._waiters.remove(waiter)
        if self._waiters:
            return
        if self._asking is not None:
            self._asking.answer.cancel()
        else:
            self._end(Failure(CancelledError()))

    def _end(self, result: Answer | Failure) -> None:
        if self.over:
            return
        self.over = True
        waiters, self._waiters = self._waiters, []
        self._resolver.ended(self, self._asking, result)
        for waiter in waiters:
            if waiter.called:
                continue
            if isinstance(result, Failure):
                waiter.errback(Failure(result.value))
            else:
                waiter.callback(result)


def _as_result(question: Question, answer: Answer) -> Deferred[Answer]:
    """The answer to the name that was asked for first, or NoSuchName."""
    if not answer.exists:
        via = f" (an alias of {answer.name})" if answer.name != question.name else ""
        return fail(NoSuchName(f"there is no {question.name}{via}"))
    return succeed(answer)
