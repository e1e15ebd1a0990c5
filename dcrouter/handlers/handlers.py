"""The process of the handlers as one object: the operator's code, and the connections that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger

from dcrouter.config.admin import Config
from dcrouter.config.code import code_of
from dcrouter.events import SessionClosed
from dcrouter.extensions import NOTHING, Extensions, Loaded
from dcrouter.facts import ConnectionFacts
from dcrouter.handlers.egress import departure_of, telling
from dcrouter.handlers.selects import Reply, Selects, facts_of, told_places
from dcrouter.handlers.sessions import HandlerRoute, Sessions, routes_of
from dcrouter.interfaces import EGRESS_WITHIN, SELECT_WITHIN
from dcrouter.tls.chooser import Chooser

CLOSE_WITHIN = 2.0
"""Seconds for connections to end at the end of the process."""


@frozen(eq=False)
class Succession:
    """Another configuration, ready to be used."""

    loaded: Loaded
    routes: Mapping[str, HandlerRoute]


class Handlers:
    """`closed` hears of each connection that has ended. `folder`: where modules may stand, beside installed ones.

    Life: `use`, then `take` for each connection, `drain` (optional), `close`.
    """

    log = Logger()

    def __init__(self, folder: Path, chooser: Chooser, reactor: Any, closed: Callable[[SessionClosed], None]) -> None:
        self._reactor = reactor
        self._extensions = Extensions()
        self._extensions.use_folder(folder)
        self._loaded = NOTHING
        self._routes: Mapping[str, HandlerRoute] = {}
        self._routes_before: Mapping[str, HandlerRoute] = {}
        self.sessions = Sessions(reactor, chooser, closed)
        self._selects = Selects(reactor, SELECT_WITHIN, facts_of, told_places)
        self._egress = Selects(reactor, EGRESS_WITHIN, departure_of, telling(reactor))
        self._selects_before: Mapping[str, Callable[[Any], Any]] = {}

    def succession(self, config: Config, ca_files: Mapping[str, bytes]) -> Succession:
        """What `use` needs of a configuration. ConfigError: with all that is wrong with what it names; TlsError."""
        loaded = self._extensions.load(code_of(config.routes, config.email), self._loaded)
        routes = routes_of(config.routes, loaded.factories)
        for route in routes.values():
            route.believe(ca_files)
        return Succession(loaded, routes)

    def use(self, to: Succession, chooser: Chooser) -> None:
        """It is the configuration from now on; connections keep the route that they have.

        Factories that are new begin, and those that nobody names any more end, as at a port (IProtocolFactory).
        """
        self._selects_before = self._loaded.selects
        before, after = self._loaded.factories.values(), to.loaded.factories.values()
        fresh = [factory for factory in after if not _among(factory, before)]
        gone = [factory for factory in before if not _among(factory, after)]
        self._loaded = to.loaded
        # The edge changes over a moment later than we do.
        self._routes, self._routes_before = to.routes, self._routes
        self.sessions.chooser = chooser
        for factory in fresh:
            self._guarded(factory.doStart)
        for factory in gone:
            self._guarded(factory.doStop)

    def believe(self, ca_files: Mapping[str, bytes]) -> None:
        """Authorities and revocation lists have changed."""
        for route in self._routes.values():
            route.believe(ca_files)

    @property
    def needed(self) -> bool:
        """Whether there is anything to do here, now or by the configuration."""
        return bool(self._routes or self._loaded.selects or self.sessions)

    def take(self, fd: int, facts: ConnectionFacts) -> None:
        """An accepted socket, which is ours from now on, of one of the routes."""
        name = facts.route or ""
        self.sessions.take(fd, facts, self._routes.get(name) or self._routes_before.get(name))

    def select(self, fields: Mapping[str, Any], reply: Reply) -> None:
        """A question of the edge."""
        self._selects.answer(self._select(fields["name"]), fields, reply)

    def egress(self, fields: Mapping[str, Any], reply: Reply) -> None:
        """A question of the mail process."""
        self._egress.answer(self._select(fields["name"]), fields, reply)

    def _select(self, name: str) -> Callable[[Any], Any] | None:
        return self._loaded.selects.get(name) or self._selects_before.get(name)

    def drain(self) -> Deferred[None]:
        """Fires when all connections have ended, by themselves or after their route's timeouts.drain."""
        return self.sessions.drain()

    def close(self) -> Deferred[None]:
        """Cuts what is left; fires when that has ended, and factories have."""
        ended = self.sessions.drain()
        self.sessions.abort()
        ended.addTimeout(CLOSE_WITHIN, self._reactor, onTimeoutCancel=lambda result, _: None)
        return ended.addCallback(lambda _: self._stop())

    def status(self) -> dict[str, Any]:
        """Counters since the start, and `connections` as of now."""
        sessions = self.sessions
        return {
            "sessions": sessions.begun,
            "connections": len(sessions),
            "bytes_in": sessions.bytes_in,
            "bytes_out": sessions.bytes_out,
            "ends": sessions.ends,
        }

    def _stop(self) -> None:
        for factory in self._loaded.factories.values():
            self._guarded(factory.doStop)

    def _guarded(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (Exception, SystemExit):
            self.log.failure("a factory has failed to begin, or to end")


def _among(factory: IProtocolFactory, others: Iterable[IProtocolFactory]) -> bool:
    return any(factory is other for other in others)
