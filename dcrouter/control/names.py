"""The addresses of the targets' names: asked for by the parent, kept fresh, told to the edge, which never resolves.

1. Each name is looked up by getaddrinfo(3), so hosts files and the system's resolver count, in a few threads: the call
   releases the GIL for its whole length. Again about every 30 seconds, spread so that they do not come all at once.
2. The last good answer is kept while lookups fail; a failure is logged once, and so is the recovery.
3. IPv4 addresses come before IPv6 ones; otherwise the resolver's order stays (RFC 6724).
"""

from __future__ import annotations

import queue
import random
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dcrouter.config.actions import Forward
from dcrouter.config.admin import Config
from dcrouter.config.routes import Route

THREADS = 4
INTERVAL = 30.0
"""Seconds between two lookups of one name; Linux resolvers do not tell the TTL."""
JITTER = 0.2
GATHER = 0.2
"""Seconds for which changes are gathered before they are told."""

Lookup = Callable[[str], list[str]]


class Reactor(Protocol):
    """What is needed of one."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall: ...
    def callFromThread(self, callable: Callable[..., Any], *args: object) -> None: ...


def target_names(routes: Iterable[Route], *more: str | None) -> tuple[str, ...]:
    """The host names of all `forward` targets and of `more`, lower-case and each once; addresses are left out."""
    hosts = [
        target.host
        for route in routes
        if route.enabled and isinstance(route.action, Forward)
        for target in route.action.targets
    ]
    return tuple(dict.fromkeys(host.lower() for host in (*hosts, *more) if host and not _is_address(host)))


def names_of(config: Config, routes: Iterable[Route]) -> tuple[str, ...]:
    """All names that the edge needs for a configuration, whose effective routes these are."""
    default = config.defaults.target
    return target_names(routes, default.host if default is not None else None)


def look_up(name: str) -> list[str]:
    """Its addresses as text, IPv4 first; OSError (socket.gaierror) where there is no answer. Blocks."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
    return sorted(addresses, key=lambda address: ":" in address)


class Names:
    """`changed` is called with all known names (`name -> [address, ...]`) when one of them has new addresses."""

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        names: Iterable[str],
        changed: Callable[[dict[str, list[str]]], None],
        look_up: Lookup = look_up,
    ) -> None:
        self.reactor = reactor
        self.names = tuple(names)
        self.changed = changed
        self.look_up = look_up
        self.known: dict[str, list[str]] = {}
        self._wanted = set(self.names)
        self._unanswered = set(self.names)
        self._failing: set[str] = set()
        self._waiting: list[Deferred[None]] = []
        self._questions: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._calls: dict[str | None, IDelayedCall] = {}
        self._threads = 0
        self._started = False

    def start(self) -> None:
        """Begin to ask; returns at once."""
        self._started = True
        self._ask(self.names)

    def also(self, names: Iterable[str], timeout: float) -> Deferred[None]:
        """Ask for these too from now on; fires as `first_answers` does."""
        fresh = [name for name in names if name not in self._wanted]
        self.names = (*self.names, *fresh)
        self._wanted.update(fresh)
        self._unanswered.update(fresh)
        self._ask(fresh)
        return self.first_answers(timeout)

    def only(self, names: Iterable[str]) -> None:
        """Of those that are asked for, go on with these alone."""
        kept = set(names)
        for name in self._wanted - kept:
            call = self._calls.pop(name, None)
            if call is not None:
                call.cancel()
            self.known.pop(name, None)
            self._unanswered.discard(name)
            self._failing.discard(name)
        self.names = tuple(name for name in self.names if name in kept)
        self._wanted &= kept

    def _ask(self, names: Sequence[str]) -> None:
        while self._started and self._threads < min(THREADS, len(self.names)):
            # Daemons: a resolver that does not answer must not hold up the end of the process.
            threading.Thread(target=self._work, name=f"names-{self._threads}", daemon=True).start()
            self._threads += 1
        for name in names:
            self._questions.put(name)

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
        """Ask no more; answers that still come are ignored."""
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()
        self._started = False
        for _ in range(self._threads):
            self._questions.put(None)
        self._threads = 0
        for fired in tuple(self._waiting):
            self._release(fired)

    def _work(self) -> None:
        while (name := self._questions.get()) is not None:
            try:
                addresses, cause = self.look_up(name), ""
            except (OSError, UnicodeError) as error:
                addresses, cause = [], str(error)
            self.reactor.callFromThread(self._answered, name, addresses, cause)

    def _answered(self, name: str, addresses: list[str], cause: str) -> None:
        if not self._started or name not in self._wanted:
            return
        self._unanswered.discard(name)
        if addresses:
            if name in self._failing:
                self._failing.discard(name)
                self.log.info("{name} resolves again: {addresses}", name=name, addresses=", ".join(addresses))
            if sorted(self.known.get(name, ())) != sorted(addresses):
                self.known[name] = addresses
                self._tell_soon()
        elif name not in self._failing:
            self._failing.add(name)
            known = ", ".join(self.known.get(name, ()))
            self.log.warn(
                "{name} does not resolve ({cause}): {effect}",
                name=name,
                cause=cause or "no addresses",
                effect=f"its last addresses stay: {known}" if known else "its targets are unreachable until it does",
            )
        self._calls[name] = self.reactor.callLater(
            INTERVAL * random.uniform(1 - JITTER, 1 + JITTER), self._ask_again, name
        )
        if not self._unanswered and self._waiting:
            self._tell()
            for fired in tuple(self._waiting):
                self._release(fired)

    def _ask_again(self, name: str) -> None:
        del self._calls[name]
        self._questions.put(name)

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


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
