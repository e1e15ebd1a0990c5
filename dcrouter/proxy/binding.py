"""The routes of the configuration as the edge runs them: each bound to its action, its protocol and its counters."""

from __future__ import annotations

from collections.abc import Mapping

from dcrouter.config.actions import Block, Forward, MailHandover, Redirect, Respond
from dcrouter.config.admin import Config
from dcrouter.config.effective import Protocols, effective_routes
from dcrouter.config.match import Match
from dcrouter.config.routes import Route
from dcrouter.config.security import Security
from dcrouter.config.targets import SimpleTarget, Target
from dcrouter.net.slices import Steps
from dcrouter.proxy.actions import answer
from dcrouter.proxy.actions.forward import ForwardAction
from dcrouter.proxy.actions.mail import MailAction
from dcrouter.proxy.admission import Admission
from dcrouter.proxy.bound import Action, BoundRoute
from dcrouter.proxy.state import RouteCounters, Service, State
from dcrouter.targets.addresses import Addresses
from dcrouter.targets.reach import Reach
from dcrouter.targets.target import Targets
from dcrouter.targets.tls import TargetTls
from dcrouter.tls.profile import client_context


class Binding:
    """Binds the routes of one configuration. `ca_files`: path -> PEM of every `tls.upstream.ca`.

    `services`: what belongs to the routes bound so far and acts by itself while they are in use.
    """

    def __init__(self, config: Config, addresses: Addresses, ca_files: Mapping[str, bytes], state: State) -> None:
        self._config = config
        self._addresses = addresses
        self._ca_files = ca_files
        self._state = state
        self.services: list[Service] = []

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
            security=Security(allow=defaults.security.allow, block=defaults.security.block),
        )
        return self._bind(route, Protocols((route,), self._config.listen))

    def _bind(self, route: Route, protocols: Protocols) -> BoundRoute:
        spoken = protocols.of(route)
        admission = Admission.kept(route.security, self._state, "route", route.name)
        counters = self._state.keep(RouteCounters, route.name)
        return BoundRoute(route, spoken, self._action(route, spoken), admission, counters)

    def _action(self, route: Route, spoken: str) -> Action:
        action = route.action
        timeout = self._config.http.request_timeout
        match action:
            case Forward():
                targets = Targets(route.name, action, self._addresses, self._state)
                return ForwardAction(targets, Reach(self._target_tls(route)))
            case Redirect():
                return answer.AnswerAction(answer.redirect(action), timeout)
            case Respond():
                return answer.AnswerAction(answer.respond(action), timeout)
            case Block():
                return answer.AnswerAction(answer.block(action), timeout) if spoken == "http" else answer.CloseAction()
            case MailHandover():
                return MailAction(action.kind)

    def _target_tls(self, route: Route) -> TargetTls | None:
        if route.tls is None or route.tls.mode != "terminate-and-reencrypt":
            return None
        upstream = route.tls.upstream
        ca = self._ca_files[str(upstream.ca)] if upstream.ca is not None else None
        return TargetTls(client_context(upstream, ca), upstream.verify, upstream.server_name)


def _as_target(simple: SimpleTarget) -> Target:
    return Target(host=simple.host, port=simple.port, unix=simple.unix)
