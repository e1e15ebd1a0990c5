"""The features of one route, made from its configuration: what it does not use is not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dcrouter.config.actions import Forward, Static
from dcrouter.config.routes import Route
from dcrouter.net.threads import Threads
from dcrouter.proxy.http.auth.basic import BasicGate
from dcrouter.proxy.http.auth.forward import ForwardGate
from dcrouter.proxy.http.auth.passwords import Passwords
from dcrouter.proxy.http.auth.tokens import TokenGate
from dcrouter.proxy.http.features import NO_FEATURES, Features, Gate, RequestEdit, ResponseEdit
from dcrouter.proxy.http.headers import hsts_edit, request_edit, response_edit
from dcrouter.proxy.http.pool import Pool
from dcrouter.proxy.http.rates import RateGate
from dcrouter.proxy.http.rewrite import rewrite_edit
from dcrouter.proxy.state import State
from dcrouter.targets.addresses import Addresses
from dcrouter.tls.keysets import KeySets


class Assembly:
    """Makes the features of the routes of one configuration. `state`: what of them outlives it. `files`: path ->
    content of every file that they name; `believers`: who hears of it when they change. `addresses`: of the names of
    those who are asked.
    """

    def __init__(
        self,
        state: State,
        files: Mapping[str, bytes],
        believers: list[Callable[..., None]],
        addresses: Addresses,
    ) -> None:
        self._addresses = addresses
        self._state = state
        self._files = files
        self.believers = believers

    @property
    def _hashing(self) -> tuple[Threads, Passwords]:
        return self._state.keep(Threads, "passwords"), self._state.keep(Passwords)

    def features(self, route: Route) -> Features:
        """Those of an http route, which may be none."""
        gates: list[Gate] = []
        request_edits: list[RequestEdit] = []
        response_edits: list[ResponseEdit] = []
        action, security = route.action, route.security
        if security.request_rate:
            gates.append(RateGate.kept(security.request_rate, self._state, route.name))
        if security.basic_auth is not None:
            basic = BasicGate(security.basic_auth, self._files, *self._hashing)
            gates.append(basic)
            self.believers.append(basic.believe)
        if security.jwt is not None:
            tokens = TokenGate(security.jwt, self._files, self._state.keep(KeySets))
            gates.append(tokens)
            self.believers.append(tokens.believe)
        if security.forward_auth is not None:
            gates.append(ForwardGate(security.forward_auth, self._addresses, self._state.keep(Pool, "http")))
        if isinstance(action, Forward | Static):
            if action.path_rewrite is not None:
                request_edits.append(rewrite_edit(action.path_rewrite))
            if action.headers is not None and action.headers.response is not None:
                response_edits.append(response_edit(action.headers.response))
        if isinstance(action, Forward) and action.headers is not None and action.headers.request is not None:
            request_edits.append(request_edit(action.headers.request))
        if route.tls is not None and route.tls.hsts is not None:
            response_edits.append(hsts_edit(route.tls.hsts))
        if not (gates or request_edits or response_edits):
            return NO_FEATURES
        return Features(gates=tuple(gates), request_edits=tuple(request_edits), response_edits=tuple(response_edits))
