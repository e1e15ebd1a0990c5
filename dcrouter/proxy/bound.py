"""A route as the edge runs it: the operator's values, bound to counters, an action and what matching asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from dcrouter.config.actions import Forward, Handler, MailHandover, MailRelay
from dcrouter.config.effective import certified_name, needs_bytes
from dcrouter.config.routes import Route
from dcrouter.proxy.admission import Admission
from dcrouter.proxy.http.features import NO_FEATURES, Features, HttpAction
from dcrouter.proxy.state import RouteCounters
from dcrouter.tls.clients import ClientCheck

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session


class Action(Protocol):
    """What a route does with a connection that is its own."""

    async def run(self, session: Session) -> None:
        """Serve `session` until its end. Whatever it raises ends the session with that reason."""


class BoundRoute:
    """One route of the effective table.

    `needs_bytes`: it can only be told by what the client sends first. `needs_local`: it cannot be told without the
    address that the client connected to, or tells it to the target. `alpn`: what a terminated session speaks;
    `clients`: what clients prove in its handshake. `is_handed`: another process takes its connections, and ends their
    TLS. `asks`: code of the operator's is told what is known of each. `certified_name`: one of its domains that a
    certificate can be for, None where it has none. `trust`: what a TLS session that is ended here proves about the
    client, and carries; routes that differ in it never share one. `counters`: those of every route of this name since
    the start.
    """

    __slots__ = (
        "action",
        "admission",
        "alpn",
        "asks",
        "certified_name",
        "clients",
        "counters",
        "features",
        "http",
        "is_handed",
        "is_http",
        "is_mail",
        "min_rate",
        "needs_bytes",
        "needs_local",
        "route",
        "speaks_tls",
        "terminates",
        "timeouts",
        "trust",
    )

    def __init__(
        self,
        route: Route,
        protocol: str,
        action: Action,
        admission: Admission,
        counters: RouteCounters,
        http: HttpAction | None = None,
        features: Features = NO_FEATURES,
    ) -> None:
        """`action`: what is done with a connection; `http`, `features`: with each request, where it speaks HTTP."""
        self.route = route
        self.action = action
        self.http = http
        self.features = features
        self.admission = admission
        self.counters = counters
        self.timeouts = route.timeouts
        self.min_rate = route.security.min_rate
        self.is_http = protocol == "http"
        self.certified_name = certified_name(route)
        self.speaks_tls = route.tls is not None
        self.terminates = route.tls is not None and route.tls.mode != "passthrough"
        self.is_mail = isinstance(route.action, MailHandover)
        relays = isinstance(route.action, MailRelay)
        self.is_handed = isinstance(route.action, MailHandover | Handler) and not relays
        self.needs_bytes = needs_bytes(route)
        forward = route.action if isinstance(route.action, Forward) else None
        introduces = relays or (forward is not None and forward.proxy_protocol is not None)
        self.asks = isinstance(route.action, Handler) or (forward is not None and forward.select is not None)
        self.needs_local = introduces or route.match.listen is not None or self.asks
        told = route.tls.alpn if route.tls is not None else None
        self.alpn = told or (("http/1.1",) if self.is_http else ())
        client_auth = route.tls.client_auth if route.tls is not None else None
        self.trust = (self.terminates, self.is_http, self.alpn, client_auth)
        self.clients: ClientCheck | None = None

    def believe(self, files: Mapping[str, bytes]) -> None:
        """What clients must prove, by the authorities and lists as they are now: path -> PEM. TlsError, and nothing has
        changed, where one is not what it should be.
        """
        assert self.route.tls is not None and self.route.tls.client_auth is not None
        self.clients = ClientCheck.of(self.route.tls.client_auth, files)
