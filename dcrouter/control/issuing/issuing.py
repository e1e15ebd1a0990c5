"""Automatic certificates, order by order: what is due, who issues it, and what is remembered of it.

1. Nothing is asked before `start`: listeners are bound and served by then, with certificates of the internal CA.
2. A name is due when it has no certificate, or when its is to be renewed: at a moment in the window that the authority
   names (RFC 9773), else after a share of its lifetime. At most AT_ONCE orders run together.
3. Of the directories that do not rest the first is asked; one that refuses leaves it to the next. A name that fails has
   to wait, longer each time, and harms no other. The failure is written down before the order begins, so that whoever
   is killed in the middle of it has failed.
4. What is issued is on disk before it is told to anybody, and in use at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from cryptography import x509
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dcrouter.config.acme import Acme, AcmeKeyType
from dcrouter.control.issuing.answers import Noted
from dcrouter.control.issuing.directories import Directories, not_proved, word_of
from dcrouter.control.issuing.followed import FollowedOrders
from dcrouter.control.issuing.kept import Kept, Record
from dcrouter.control.issuing.windows import Windows
from dcrouter.errors import AcmeError, TlsError
from dcrouter.tls.acme.certificate import certificate_id
from dcrouter.tls.acme.challenges import Solver
from dcrouter.tls.credential import Credential, PrivateKey, make
from dcrouter.tls.names import wildcard_of
from dcrouter.tls.renewal import late, planned, soonest, wait
from dcrouter.wire.moments import utc

AT_ONCE = 5
"""Orders that run together."""
LONGEST_LOOK = 60.0
"""Seconds until the next look at what is due, at most: clocks may be set."""

Solvers = Callable[[Acme], dict[str, Solver]]
KeySource = Callable[[str, AcmeKeyType], Awaitable[PrivateKey]]
"""(name, key_type) -> the key that its next certificate is to have; TlsError, OSError."""


class Issuing:
    """Of one parent. `issued` is called when there is a new certificate; `solvers` makes those of a configuration.

    `make_key`: a private key for the next certificate of a name; `clock`: UTC epoch seconds; `chance`: 0 to 1.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        kept: Kept,
        issued: Callable[[], None],
        solvers: Solvers,
        make_key: KeySource,
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.kept = kept
        self._make_key = make_key
        self.acme: Acme | None = None
        self.names: dict[str, None] = {}
        self.running: dict[str, Deferred[None]] = {}
        self.followed = FollowedOrders()
        self.directories = Directories(reactor, kept, clock)
        self.may_renew: Callable[[str], Any] | None = None
        """Asked of a name that no route spells out, before it is renewed: gives an awaitable of True or False."""
        self._reactor = reactor
        self._issued = issued
        self._make_solvers = solvers
        self._solvers: dict[str, Solver] = {}
        self._clock = clock
        self._chance = chance
        self._windows = Windows(kept, self.directories, self.look_soon, clock, chance)
        self._started = False
        self._call: IDelayedCall | None = None

    # What it is told.

    def use(self, acme: Acme | None, names: Iterable[str]) -> None:
        """See to these names, in this way, from now on. Orders of others end; those that stay go on."""
        if acme != self.acme:
            self.acme = acme
            self.directories.use(acme)
            self._solvers = self._make_solvers(acme) if acme is not None else {}
        self.want(names)

    def want(self, names: Iterable[str]) -> None:
        """See to these names, and to those on demand that are known already."""
        said = dict.fromkeys(names)
        for record in self.kept.records.values():
            if record.name in said and record.on_demand:
                record.on_demand = False  # a route spells it out now
                self._remember(record)
        demanded = (record.name for record in self.kept.records.values() if record.on_demand)
        self.names = said | dict.fromkeys(demanded) if self.acme is not None else {}
        for name in [one for one in self.running if one not in self.names]:
            self.log.info("{name}: its order ends, nobody wants a certificate any more", name=name)
            self.running[name].cancel()
        self.look()

    def demand(self, name: str) -> None:
        """A name that a client has asked for, and that may have a certificate."""
        if name not in self.names and self.acme is not None:
            record = self.kept.record(name)
            record.on_demand = True
            self._remember(record)
            self.names[name] = None
            self.look()

    def start(self) -> None:
        """Begin to look for certificates."""
        self._started = True
        try:
            self.kept.sweep(set(self.names))
        except OSError as error:
            self.log.error("{file}: {problem}", file=error.filename, problem=error.strerror)
        for name in self.names:
            held, record = self.kept.credentials.get(name), self.kept.record(name)
            if held is not None and not record.renew:
                self._plan(record, held)  # what was known of it is lost
        self.look()

    def stop(self) -> Deferred[Any]:
        """Order nothing any more; fires when everything that was shown to authorities is put away."""
        self._started = False
        if self._call is not None and self._call.active():
            self._call.cancel()
        ending = [*self.running.values(), *self._windows.asking.values()]
        for one in ending:
            one.cancel()
        stopped: Deferred[Any] = DeferredList(ending, consumeErrors=True)
        return stopped.addCallback(lambda _: self.directories.close())

    def credentials(self) -> tuple[Credential, ...]:
        """Those that serve: a name that a wildcard serves needs none of its own, which nobody renews."""
        now = self._clock()
        return tuple(
            held
            for name, held in self.kept.credentials.items()
            if not self._is_served(name, now) and (held.not_after > now or name in self.names)
        )

    def renew_now(self, name: str) -> None:
        """As soon as a directory may be asked; `followed` tells what comes of it."""
        record = self.kept.record(name)
        self.followed.ask(name, running=name in self.running)
        record.renew, record.until = self._clock(), 0.0
        self._remember(record)
        self.look()

    def _remember(self, record: Record) -> None:
        """As far as the disk lets us: what is only in memory holds as long as we live."""
        try:
            self.kept.save(record)
        except OSError as error:
            self.log.error("{file}: {problem}", file=error.filename, problem=error.strerror)

    # What is due.

    def due(self, name: str) -> float:
        """When `name` is to be ordered, UTC epoch seconds; infinity: not as things are."""
        record, held = self.kept.records.get(name), self.kept.credentials.get(name)
        if self._is_covered(name):
            return float("inf")
        if record is None:
            return 0.0
        if held is None or (record.directory and record.directory not in self.directories.urls):
            return record.until
        return max(record.renew, record.until)

    def _is_served(self, name: str, now: float) -> bool:
        """Whether a wildcard certificate serves it."""
        held = self.kept.credentials.get(wildcard_of(name)) if not name.startswith("*") else None
        return held is not None and held.not_after > now

    def _is_covered(self, name: str) -> bool:
        """Whether one does and is renewed, or is about to come: one that fails leaves its names to themselves."""
        wildcard, now = wildcard_of(name), self._clock()
        if name.startswith("*"):
            return False
        record = self.kept.records.get(wildcard)
        if self._is_served(name, now):
            return wildcard in self.names or (record is not None and now < record.renew)
        # What runs is written down as a failure already.
        failed = record is not None and record.failures > (wildcard in self.running)
        return wildcard in self.names and name not in self.kept.credentials and not failed

    def look(self) -> None:
        """Begin what is due now, and look again when something else is."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        if not self._started or self.acme is None:
            return
        now = self._clock()
        self._tell_lateness(now)  # before orders begin, which count as broken off
        next_time = now + LONGEST_LOOK
        rest = self.directories.rest_until()
        turns = ((self.due(name), name) for name in self.names if name not in self.running)
        for when, name in sorted(turns, key=lambda one: (one[0] > now, not self.followed.waits(one[1]), one)):
            if when > now or rest:
                next_time = min(next_time, max(when, rest))
                break
            if len(self.running) >= AT_ONCE:
                break  # one that ends looks again
            self._begin(name)
        self._windows.see_to(self.names, self.running)
        self._call = self._reactor.callLater(max(next_time - now, 0.05), self.look)

    def _begin(self, name: str) -> None:
        self.followed.begun(name)
        order = self.running[name] = Deferred.fromCoroutine(self._order(name))
        order.addErrback(self._broken, name).addBoth(self._ended, name)

    def _ended(self, result: object, name: str) -> None:
        self.running.pop(name, None)
        self.followed.failed(name, "the order was broken off")
        self.look_soon()

    def look_soon(self) -> None:
        """Something may be due that was not."""
        if self._started:
            self._reactor.callLater(0, self.look)

    def _broken(self, failure: Any, name: str) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("the order of {name} broke", failure, name=name)

    # One order.

    async def _order(self, name: str) -> None:
        record, held = self.kept.record(name), self.kept.credentials.get(name)
        begun = held is not None or record.failures > 0  # else it was asked just now
        if record.on_demand and begun and self.may_renew is not None and not await self.may_renew(name):
            self.log.info("{name}: nobody wants a certificate for it any more", name=name)
            self.followed.failed(name, "nobody wants a certificate for it any more")
            self.forget(name)
            return
        before = record.failures, record.until, record.error
        record.failures += 1
        record.until = self._clock() + wait(record.failures, self._chance())
        record.error = "the order was broken off"
        try:
            self.kept.save(record)
        except OSError as error:
            # Without it a crash would be no failure, and a certificate could not be kept anyhow.
            record.error = f"no order: {error.filename}: {error.strerror}"
            self.followed.failed(name, record.error)
            self.log.error(
                "{name}: no order: {file}: {problem}", name=name, file=error.filename, problem=error.strerror
            )
            return
        problems: list[AcmeError] = []
        innocent = True
        try:
            for url in (ready := self.directories.ready()):
                try:
                    credential = await self._ask(url, name, record, held)
                except AcmeError as error:
                    problems.append(error)
                    if url != ready[-1]:  # else it is the outcome
                        self._step(name, f"{word_of(url)}: {error}")
                    if not self.directories.failed(url, error, name):
                        innocent = False
                    if not_proved(error):
                        break
                else:
                    if self.acme is None:
                        return  # nobody wants it any more
                    self.directories.answered(url)
                    self._have(url, record, held, credential)
                    return
        except CancelledError:
            record.failures, record.until, record.error = before
            self._remember(record)
            raise
        self._have_not(record, before[0] if innocent else record.failures, problems, held)

    async def _ask(self, url: str, name: str, record: Record, held: Credential | None) -> Credential:
        self._step(name, f"{word_of(url)} is asked")
        await self.directories.turn(url)
        assert self.acme is not None
        try:
            authority = self.directories.authority(url)
            key = await self._make_key(name, self.acme.key_type)
        except (TlsError, OSError, ValueError) as error:
            raise AcmeError(str(error)) from error
        replaces = certificate_id(held.certificates()[0]) if held is not None and record.directory == url else None
        chain = await authority.issue(
            (name,),
            key,
            self._in_turn(name, record),
            replaces=replaces,
            told=partial(self._step, name),
        )
        return make(x509.load_pem_x509_certificates(chain), key, source="acme")

    def _step(self, name: str, words: str) -> None:
        self.log.debug("{name}: {words}", name=name, words=words)
        self.followed.step(name, words)

    def _in_turn(self, name: str, record: Record) -> dict[str, Solver]:
        """The solvers in the order in which they are tried: what has worked first, and another after each failure."""
        kinds = ["dns-01"] if name.startswith("*") else list(self._solvers)
        if record.kind in kinds:
            kinds.remove(record.kind)
            kinds.insert(0, record.kind)
        first = (record.failures - 1) % max(len(kinds), 1)
        turn = [kind for kind in kinds[first:] + kinds[:first] if kind in self._solvers]
        return {kind: Noted(self._solvers[kind], partial(setattr, record, "shown", kind)) for kind in turn}

    def _have(self, url: str, record: Record, held: Credential | None, credential: Credential) -> None:
        name, now = record.name, self._clock()
        self.kept.hold(name, credential)
        record.failures, record.until, record.error = 0, 0.0, ""
        record.directory, record.issued, record.window, record.ask_again, record.late = url, now, None, now, 0
        record.kind = record.shown
        self._plan(record, credential)
        self.followed.issued(name, credential.not_after)
        self.log.info(
            "{name}: {what} by {directory}, valid until {until}, to be renewed on {renewal}",
            name=name,
            what="certificate issued" if held is None else "certificate renewed",
            directory=word_of(url),
            until=utc(credential.not_after),
            renewal=utc(record.renew),
        )
        self._issued()

    def _plan(self, record: Record, held: Credential) -> None:
        assert self.acme is not None
        begin = held.certificates()[0].not_valid_before_utc.timestamp()
        moment = planned(begin, held.not_after, self.acme.renew_at, self._chance())
        record.renew = max(moment, soonest(record.issued, held.not_after))
        self._remember(record)

    def _have_not(self, record: Record, failures: int, problems: list[AcmeError], held: Credential | None) -> None:
        now = self._clock()
        if failures < record.failures:  # it is the directories' fault, and they rest
            record.until = now
        elif problems and (asked := problems[-1].retry_after) is not None:
            record.until = max(record.until, now + asked)
        record.failures = failures
        record.error = "; ".join(map(str, problems)) or "no directory could be asked"
        self._remember(record)
        again = utc(max(record.until, self.directories.rest_until()))
        self.followed.failed(record.name, f"{record.error}; next try {again}")
        self.log.warn(
            "{name}: no certificate: {problem}; next try {when}, until then {meanwhile}",
            name=record.name,
            problem=record.error,
            when=again,
            meanwhile="the internal CA's serves" if held is None else f"the one until {utc(held.not_after)} serves",
        )

    def forget(self, name: str) -> None:
        """It is wanted no more, and neither is what is held."""
        self.names.pop(name, None)
        self.kept.drop(name)
        self._issued()

    def _tell_lateness(self, now: float) -> None:
        """Once each, that half, and nine tenths, of the time in which renewal should have worked are gone."""
        for name in self.names:
            record, held = self.kept.records.get(name), self.kept.credentials.get(name)
            if record is None or held is None or not record.renew:
                continue
            passed = late(record.renew, held.not_after, now)
            if passed > record.late:
                record.late = passed
                self._remember(record)
                tell = self.log.warn if passed == 1 else self.log.error
                tell(
                    "{name}: its certificate ends on {end} and could not be renewed since {renewal}: {problem}",
                    name=name,
                    end=utc(held.not_after),
                    renewal=utc(record.renew),
                    problem=record.error or "its turn has not come",
                )
