"""The addresses of the targets' names: asked for by the parent, kept fresh, told to the edge, which never resolves.

1. Each name is resolved by net/resolver (/etc/hosts, then the servers of `resolver`), and again when its answer may no
   longer be believed: after its TTL.
2. The last good answer is kept while nobody has an answer, or says that there is none; a failure is logged once, and so
   is the recovery. A family of addresses of which nobody knows keeps those that it had.
3. The order of families is that of `resolver.addresses`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Protocol

from dns.rdatatype import RdataType
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.config.actions import Forward
from dcrouter.config.admin import Config
from dcrouter.config.names import is_address
from dcrouter.config.routes import Route
from dcrouter.config.urls import split_url
from dcrouter.net.resolver import Resolved

AGAIN = 2.0
AGAIN_AT_MOST = 30.0
"""Seconds after which a name that did not resolve is asked for again: twice as long each time, up to so much."""
DENIAL = 2.0
"""Seconds for which it is believed that a target's name does not exist: one that just comes into being is awaited."""
JITTER = 0.1
"""Added to each wait, a share of it: many names with one TTL do not come all at once."""
GATHER = 0.2
"""Seconds for which changes are gathered before they are told."""


class Reactor(Protocol):
    """What is needed of one."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall: ...


class Source(Protocol):
    """Who is asked (net/resolver)."""

    def resolve(self, host: str) -> Deferred[Resolved]:
        """Its addresses; fails with what its text says."""


def target_names(routes: Iterable[Route], *more: str | None) -> tuple[str, ...]:
    """The host names that routes need, and `more`, lower-case and each once; addresses are left out.

    Those of targets, or of the proxy that leads to them: that one finds the targets by itself; and of forward_auth.
    """
    hosts: list[str | None] = []
    for route in routes:
        if route.enabled and isinstance(route.action, Forward):
            through = route.action.through
            hosts += [target.host for target in route.action.targets] if through is None else [through.host]
        if route.enabled and route.security.forward_auth is not None:
            hosts.append(split_url(route.security.forward_auth.url).host)
    return tuple(dict.fromkeys(host.lower() for host in (*hosts, *more) if host and not is_address(host.strip("[]"))))


def names_of(config: Config, routes: Iterable[Route]) -> tuple[str, ...]:
    """All names that the edge needs for a configuration, whose effective routes these are."""
    default = config.defaults.target
    return target_names(routes, default.host if default is not None else None)


class Names:
    """`changed` is called with all known names (`name -> [address, ...]`) when one of them has new addresses."""

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        names: Iterable[str],
        changed: Callable[[dict[str, list[str]]], None],
        source: Source,
    ) -> None:
        self.reactor = reactor
        self.names = tuple(names)
        self.changed = changed
        self.source = source
        self.known: dict[str, list[str]] = {}
        self._wanted = set(self.names)
        self._unanswered = set(self.names)
        self._failures: dict[str, int] = {}
        self._waiting: list[Deferred[None]] = []
        self._questions: dict[str, Deferred[Resolved]] = {}
        self._calls: dict[str | None, IDelayedCall] = {}
        self._started = False

    def start(self) -> None:
        """Begin to ask; returns at once."""
        self._started = True
        for name in self.names:
            self._ask(name)

    def also(self, names: Iterable[str], timeout: float) -> Deferred[None]:
        """Ask for these too from now on; fires as `first_answers` does."""
        fresh = [name for name in names if name not in self._wanted]
        self.names = (*self.names, *fresh)
        self._wanted.update(fresh)
        self._unanswered.update(fresh)
        for name in fresh if self._started else ():
            self._ask(name)
        return self.first_answers(timeout)

    def only(self, names: Iterable[str]) -> None:
        """Of those that are asked for, go on with these alone."""
        kept = set(names)
        for name in self._wanted - kept:
            self._forget(name)
            self.known.pop(name, None)
            self._unanswered.discard(name)
            self._failures.pop(name, None)
        self.names = tuple(name for name in self.names if name in kept)
        self._wanted &= kept

    def first_answers(self, timeout: float) -> Deferred[None]:
        """Fires when every name was answered once, well or badly, and told; or after `timeout` seconds."""
        fired: Deferred[None] = Deferred()
        if not self._unanswered:
            self._tell()
            fired.callback(None)
            return fired
        self._waiting.append(fired)
        late = self.reactor.callLater(timeout, self._release, fired)

        def stop_waiting(result: None) -> None:
            if late.active():
                late.cancel()

        return fired.addCallback(stop_waiting)

    def stop(self) -> None:
        """Ask no more."""
        self._started = False
        for name in self.names:
            self._forget(name)
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()
        for fired in tuple(self._waiting):
            self._release(fired)

    def _ask(self, name: str) -> None:
        self._calls.pop(name, None)
        question = self._questions[name] = self.source.resolve(name)
        question.addCallbacks(self._resolved, self._failed, callbackArgs=(name,), errbackArgs=(name,))
        question.addErrback(lambda failure: self.log.failure("an answer could not be used", failure))

    def _forget(self, name: str) -> None:
        """Neither ask again for it, nor listen to an answer."""
        call = self._calls.pop(name, None)
        if call is not None:
            call.cancel()
        question = self._questions.pop(name, None)
        if question is not None:
            question.cancel()

    def _resolved(self, resolved: Resolved, name: str) -> None:
        if self._questions.pop(name, None) is None:
            return
        before = self.known.get(name, [])
        addresses = [
            *resolved.addresses,
            *(one for one in before if (RdataType.AAAA if ":" in one else RdataType.A) in resolved.missing),
        ]
        if self._failures.pop(name, 0):
            self.log.info("{name} resolves again: {addresses}", name=name, addresses=", ".join(addresses))
        if sorted(before) != sorted(addresses):
            self.known[name] = addresses
            self._tell_soon()
        self._answered(name, resolved.seconds)

    def _failed(self, failure: Failure, name: str) -> None:
        if self._questions.pop(name, None) is None:
            return
        failures = self._failures.get(name, 0)
        self._failures[name] = failures + 1
        if not failures:
            known = ", ".join(self.known.get(name, ()))
            self.log.warn(
                "{name} does not resolve ({cause}): {effect}",
                name=name,
                cause=failure.getErrorMessage() or "no addresses",
                effect=f"its last addresses stay: {known}" if known else "its targets are unreachable until it does",
            )
        self._answered(name, min(AGAIN * 2 ** min(failures, 10), AGAIN_AT_MOST))

    def _answered(self, name: str, seconds: float) -> None:
        self._calls[name] = self.reactor.callLater(seconds * random.uniform(1, 1 + JITTER), self._ask, name)
        self._unanswered.discard(name)
        if not self._unanswered and self._waiting:
            self._tell()
            for fired in tuple(self._waiting):
                self._release(fired)

    def _tell_soon(self) -> None:
        if None not in self._calls:
            self._calls[None] = self.reactor.callLater(GATHER, self._tell)

    def _tell(self) -> None:
        call = self._calls.pop(None, None)
        if call is None:
            return
        if call.active():
            call.cancel()
        self.changed(dict(self.known))

    def _release(self, fired: Deferred[None]) -> None:
        if fired in self._waiting:
            self._waiting.remove(fired)
            fired.callback(None)
