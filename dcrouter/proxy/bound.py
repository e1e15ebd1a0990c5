"""A route as the edge runs it: the operator's values, bound to counters, an action and what matching asks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dcrouter.config.actions import MailHandover
from dcrouter.config.effective import needs_bytes
from dcrouter.config.routes import Route
from dcrouter.proxy.admission import Admission
from dcrouter.proxy.state import RouteCounters

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session


class Action(Protocol):
    """What a route does with a connection that is its own."""

    async def run(self, session: Session) -> None:
        """Serve `session` until its end. Whatever it raises ends the session with that reason."""


class BoundRoute:
    """One route of the effective table.

    `names`: its domains, or [None] for any. `needs_bytes`: it can only be told by what the client sends first.
    `alpn`: what a terminated session speaks. `counters`: those of every route of this name since the start.
    """

    __slots__ = (
        "action",
        "admission",
        "alpn",
        "counters",
        "is_http",
        "is_mail",
        "names",
        "needs_bytes",
        "route",
        "speaks_tls",
        "terminates",
        "timeouts",
    )

    def __init__(
        self, route: Route, protocol: str, action: Action, admission: Admission, counters: RouteCounters
    ) -> None:
        self.route = route
        self.action = action
        self.admission = admission
        self.counters = counters
        self.timeouts = route.timeouts
        self.is_http = protocol == "http"
        self.names: tuple[str | None, ...] = route.match.domains or (None,)
        self.speaks_tls = route.tls is not None
        self.terminates = route.tls is not None and route.tls.mode != "passthrough"
        self.is_mail = isinstance(route.action, MailHandover)
        self.needs_bytes = needs_bytes(route)
        self.alpn = ("http/1.1",) if self.is_http else ()
