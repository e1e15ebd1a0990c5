"""All connections of the process of the handlers: how they begin, how their time runs out, how they end.

A connection arrives as a descriptor with its facts.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.logger import Logger

from dcrouter.config.actions import Handler
from dcrouter.config.effective import certified_name
from dcrouter.config.routes import Route
from dcrouter.errors import TlsError
from dcrouter.events import EndedBy, SessionClosed, termination
from dcrouter.facts import ConnectionFacts
from dcrouter.handlers.held import Counted, Held, secured
from dcrouter.net.adopt import adopt
from dcrouter.net.floor import REASON
from dcrouter.net.living import Living, had_gone
from dcrouter.tls.chooser import Chooser
from dcrouter.tls.clients import ClientCheck
from dcrouter.wire.clienthello import ALERT_INTERNAL_ERROR


class HandlerRoute:
    """One route and its factory. `name`: of the factory. `clients`: what its clients prove."""

    def __init__(self, route: Route, factory: IProtocolFactory) -> None:
        assert isinstance(route.action, Handler)
        self.route = route
        self.name = route.action.factory
        self.factory = factory
        self.timeouts = route.timeouts
        self.min_rate = route.security.min_rate
        self.certified_name = certified_name(route)
        self.terminates = route.tls is not None and route.tls.mode != "passthrough"
        self.alpn = (route.tls.alpn or ()) if route.tls is not None else ()
        self.clients: ClientCheck | None = None

    def believe(self, files: Mapping[str, bytes]) -> None:
        """path -> PEM of every authority and revocation list. TlsError, and nothing has changed, where one is wrong."""
        if self.route.tls is not None and self.route.tls.client_auth is not None:
            self.clients = ClientCheck.of(self.route.tls.client_auth, files)


class Sessions(Living[Held]):
    """`closed`, where given, hears of each that has ended."""

    log = Logger()

    def __init__(self, reactor: Any, chooser: Chooser, closed: Callable[[SessionClosed], None]) -> None:
        super().__init__(reactor, closed)
        self.chooser = chooser
        self._drained_since: float | None = None

    def take(self, fd: int, facts: ConnectionFacts, route: HandlerRoute | None) -> None:
        """Takes an accepted socket over. `route` None: it is nobody's any more. A client that has gone has ended."""
        accepted = socket.socket(fileno=fd)
        if route is None:
            accepted.close()
            self._refused(facts, "router", "its route has gone")
            return
        held = Held(self, facts, route, secure=route.terminates)
        try:
            protocol: IProtocol = held
            if route.terminates:
                protocol = self._secured(held)
            adopt(self.clock, accepted, lambda: protocol, lambda *given: self._transport(held, *given))  # type: ignore[arg-type]
        except TlsError as error:
            accepted.setblocking(False)
            try:
                accepted.send(ALERT_INTERNAL_ERROR)
            except OSError:
                self.log.debug("{session}: gone before the alert", session=facts.session)
            accepted.close()
            self._refused(facts, "client", str(error))
        except OSError as error:
            accepted.close()
            if not had_gone(error):
                self.log.error("{session}: not taken: {reason}", session=facts.session, reason=str(error))
            self._refused(facts, "client", f"gone before the handler: {error.strerror}")

    def gone(self, held: Held) -> None:
        """A connection has ended."""
        self.leave(held, held.event())

    def cut(self, one: Held) -> None:
        one.abort("router", "ended by the operator")

    def shown(self, one: Held, now: float) -> dict[str, Any]:
        return one.shown(now)

    def drain(self) -> Deferred[None]:
        """Fires when all have ended, by themselves or after their route's timeouts.drain."""
        self._drained_since = self.clock.seconds()
        return self.empty()

    def abort(self) -> None:
        """Cuts them all."""
        for one in list(self._living):
            one.abort("router", "the process ends")

    # Inside.

    def _secured(self, held: Held) -> IProtocol:
        route, tls = held.route, held.route.route.tls
        assert tls is not None
        context = self.chooser.web_context(
            tls.certificate, held.facts.sni, route.certified_name, route.alpn, route.clients
        )
        protocol: IProtocol = secured(held, context, self.clock)
        return protocol

    def _transport(self, held: Held, *given: Any) -> Counted:
        raw = held.raw = Counted(*given)
        raw.facts = held.facts
        self.enter(held, held.route.min_rate)
        return raw

    def _refused(self, facts: ConnectionFacts, ended_by: EndedBy, reason: str) -> None:
        how = termination(ended_by, "handler", reason)
        self.count(SessionClosed(**facts.to_plain(), phases={}, ended_by=ended_by, termination=how, reason=reason))

    def look(self, now: float) -> None:
        for held, reason in [(one, why) for one in self._living if (why := self._overdue(one, now)) is not None]:
            if reason == REASON:
                held.abort("router", reason)
            else:
                held.expire(reason, now)

    def _overdue(self, held: Held, now: float) -> str | None:
        """Why it must end now."""
        if held.expired is not None and held.ending is not None:
            return held.ending[1]
        timeouts = held.route.timeouts
        moved = held.raw.moved if held.raw is not None else 0
        if moved != held.seen:
            held.seen, held.changed = moved, now
        if held.phase == "tls":
            if _over(timeouts.hello, held.began, now):
                return "hello timeout"
        elif held.disconnecting and _over(timeouts.half_closed, held.changed, now):
            return "half_closed timeout"
        elif _over(timeouts.idle, held.changed, now):
            return "idle timeout"
        if _over(timeouts.lifetime, held.began, now):
            return "lifetime timeout"
        if self._drained_since is not None and _over(timeouts.drain, self._drained_since, now):
            return "drained"
        pace = self._paces.get(held)
        if pace is not None and now >= pace.ends and pace.too_slow(now, moved):
            return REASON
        return None


def _over(seconds: float, since: float, now: float) -> bool:
    """Whether a timeout has come; 0 is none."""
    return bool(seconds) and now - since >= seconds


def routes_of(routes: Iterable[Route], factories: Mapping[str, IProtocolFactory]) -> dict[str, HandlerRoute]:
    """By name, those with a handler."""
    return {
        route.name: HandlerRoute(route, factories[route.action.factory])
        for route in routes
        if route.enabled and isinstance(route.action, Handler)
    }
