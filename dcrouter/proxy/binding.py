"""The routes of the configuration as the edge runs them: each bound to its action, its protocol and its counters."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import partial

from dcrouter.config.actions import Block, Forward, Handler, MailHandover, MailRelay, Redirect, Respond, Static
from dcrouter.config.admin import Config
from dcrouter.config.effective import Protocols, effective_routes
from dcrouter.config.match import Match
from dcrouter.config.routes import Route
from dcrouter.config.security import RouteSecurity
from dcrouter.config.targets import SimpleTarget, Target
from dcrouter.config.tls import CertificateFiles
from dcrouter.net.slices import Steps
from dcrouter.net.threads import Threads
from dcrouter.proxy.actions.close import CloseAction
from dcrouter.proxy.actions.forward import ForwardAction
from dcrouter.proxy.actions.handler import HandlerAction
from dcrouter.proxy.actions.mail import MailAction, MailRelayAction
from dcrouter.proxy.admission import Admission
from dcrouter.proxy.asking import Asking
from dcrouter.proxy.bound import Action, BoundRoute
from dcrouter.proxy.http.answers import BlockAnswer, RedirectAnswer, RespondAnswer
from dcrouter.proxy.http.assembly import Assembly
from dcrouter.proxy.http.features import NO_FEATURES, HttpAction
from dcrouter.proxy.http.forward import HttpForward
from dcrouter.proxy.http.pool import Pool
from dcrouter.proxy.http.start import HttpConnections
from dcrouter.proxy.http.static import StaticAnswer
from dcrouter.proxy.selection import Record, Selection
from dcrouter.proxy.state import RouteCounters, Service, State
from dcrouter.targets.addresses import Addresses
from dcrouter.targets.checks import checks_of
from dcrouter.targets.reach import Reach
from dcrouter.targets.target import Targets
from dcrouter.targets.through import Through
from dcrouter.targets.tls import TargetTls
from dcrouter.tls.credential import Credential

Believer = Callable[[Mapping[str, bytes]], None]
"""Hears of files that have changed: path -> PEM of all of them."""


class Binding:
    """Binds the routes of one configuration. `ca_files`: path -> PEM of every authority and revocation list that they
    name. `credential`: what is loaded of a pair of files at the time.

    `services`: what belongs to the routes bound so far and acts by itself while they are in use. `targets`: of each
    that forwards, `selections` of those whose targets are selected. `believers`: what `ca_files` are told to when they
    change.
    """

    def __init__(
        self,
        config: Config,
        addresses: Addresses,
        ca_files: Mapping[str, bytes],
        state: State,
        credential: Callable[[CertificateFiles], Credential],
    ) -> None:
        self._credential = credential
        self._config = config
        self._addresses = addresses
        self._ca_files = ca_files
        self._state = state
        self._name = config.email.hostname if config.email is not None else socket.gethostname()
        self.services: list[Service] = []
        self.targets: list[Targets] = []
        self.selections: list[Selection] = []
        self.believers: list[Believer] = []
        self.pool = state.keep(Pool, "http")
        self._assembly = Assembly(state, ca_files, self.believers, addresses)

    def routes(self) -> Steps[list[BoundRoute]]:
        """Those of the effective table, in its order."""
        routes = effective_routes(self._config)
        yield
        protocols = Protocols(routes, self._config.listen)
        yield
        bound: list[BoundRoute] = []
        for route in routes:
            bound.append(self._bind(route, protocols))
            yield
        return bound

    def fallback(self) -> BoundRoute | None:
        """defaults.target as a route of its own, which never terminates TLS."""
        defaults = self._config.defaults
        if defaults.target is None:
            return None
        route = Route(
            name="defaults.target",
            match=Match(ports=()),
            action=Forward(targets=(_as_target(defaults.target),)),
            timeouts=defaults.timeouts,
            security=RouteSecurity(
                allow=defaults.security.allow, block=defaults.security.block, min_rate=defaults.security.min_rate
            ),
        )
        return self._bind(route, Protocols((route,), self._config.listen))

    def _bind(self, route: Route, protocols: Protocols) -> BoundRoute:
        spoken = protocols.of(route)
        admission = Admission.kept(route.security, self._state, "route", route.name)
        counters = self._state.keep(RouteCounters, route.name)
        action, http = self._actions(route, spoken)
        features = self._assembly.features(route) if spoken == "http" else NO_FEATURES
        bound = BoundRoute(route, spoken, action, admission, counters, http, features)
        if route.tls is not None and route.tls.client_auth is not None:
            bound.believe(self._ca_files)
            self.believers.append(bound.believe)
        return bound

    def _actions(self, route: Route, spoken: str) -> tuple[Action, HttpAction | None]:
        """What is done with a connection, and with each request of one that speaks HTTP."""
        action = route.action
        match action:
            case Forward():
                targets = Targets(route.name, action, self._addresses, self._state)
                through = Through(action.through, self._addresses) if action.through is not None else None
                reach = Reach(self._target_tls(route), action.source, through)
                self.targets.append(targets)
                checks = checks_of(route, targets, reach, self._name)
                if checks is not None:
                    self.services.append(checks)
                introduces, selection = action.proxy_protocol, self._selection(action, targets)
                settings = _settings(route, action)
                http = HttpForward(targets, reach, self.pool, settings, introduces, selection)
                if spoken == "http":
                    return HttpConnections(), http
                return ForwardAction(targets, reach, introduces, selection), http
            case Redirect():
                return HttpConnections(), RedirectAnswer(action)
            case Respond():
                return HttpConnections(), RespondAnswer(action)
            case Static():
                return HttpConnections(), StaticAnswer(action, self._state.keep(Threads, "files"))
            case Block():
                return (HttpConnections() if spoken == "http" else CloseAction()), BlockAnswer(action)
            case Handler():
                return HandlerAction(), None
            case MailRelay():
                return self._mail_relay(route.name, action), None
            case MailHandover():
                return MailAction(action.kind), None

    def _mail_relay(self, name: str, relay: MailRelay) -> Action:
        target = Target(host=str(relay.remote.host), port=None)
        targets = Targets(name, Forward(targets=(target,)), self._addresses, self._state)
        self.targets.append(targets)
        return MailRelayAction(relay.kind, ForwardAction(targets, Reach(), "v2", port=relay.remote.port))

    def _selection(self, action: Forward, targets: Targets) -> Selection | None:
        if action.select is None:
            return None
        selection = Selection(action.select, targets, self._state.keep(Asking), self._state.keep(Record, action.select))
        self.selections.append(selection)
        return selection

    def _target_tls(self, route: Route) -> TargetTls | None:
        if route.tls is None or route.tls.mode != "terminate-and-reencrypt":
            return None
        upstream = route.tls.upstream
        shown = None if upstream.client_certificate is None else partial(self._credential, upstream.client_certificate)
        if upstream.ca is None:
            return TargetTls(upstream, None, shown)
        path = str(upstream.ca)
        tls = TargetTls(upstream, self._ca_files[path], shown)
        self.believers.append(lambda files: tls.believe(files[path]))
        return tls


def _settings(route: Route, action: Forward) -> str:
    """What connections to a target must have in common: how they are made."""
    tls, proxy = route.tls, action.through
    upstream = repr(tls.upstream) if tls is not None and tls.mode == "terminate-and-reencrypt" else ""
    through = (str(proxy), proxy.user, str.__str__(proxy.password)) if proxy is not None else ""
    return f"{upstream} {action.source or ''} {through}"


def _as_target(simple: SimpleTarget) -> Target:
    return Target(host=simple.host, port=simple.port, unix=simple.unix)
