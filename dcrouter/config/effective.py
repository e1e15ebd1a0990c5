"""What follows from the configuration without being written in it: mail routes, protocols, the addresses to bind.

`email.ports` become routes behind those of the file: smtp-25, submission-587, smtps-465, and `kind-port` for others.
They take email.security, the default timeouts, and no TLS: that is the mail
server's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import evolve

from dcrouter.config.actions import Block, Handler, MailHandover, MailRelay, Redirect, Respond, Static
from dcrouter.config.admin import Config
from dcrouter.config.findings import spell
from dcrouter.config.httpkeys import feature_keys
from dcrouter.config.mail import Email, MailPort
from dcrouter.config.match import Address, Match, PortRange
from dcrouter.config.names import REGEX
from dcrouter.config.overlap import NameSet, listen_overlap, ports_overlap
from dcrouter.config.remote import Remote
from dcrouter.config.routes import Defaults, Protocol, Route
from dcrouter.config.security import RouteSecurity


def effective_routes(config: Config) -> tuple[Route, ...]:
    """All enabled routes in the order of the file, then the generated mail routes."""
    own = tuple(route for route in config.routes if route.enabled)
    if config.email is None:
        return own
    routes = (*own, *mail_routes(config.email, config.defaults))
    remote = config.email.remote
    return routes if remote is None else tuple(_relayed(route, remote) for route in routes)


def _relayed(route: Route, remote: Remote) -> Route:
    """A mail route where the mail half is another service, which looks after slow clients itself."""
    if not isinstance(route.action, MailHandover):
        return route
    security = evolve(route.security, min_rate=None)
    return evolve(route, action=MailRelay(kind=route.action.kind, remote=remote), security=security)


def mail_routes(email: Email, defaults: Defaults) -> tuple[Route, ...]:
    """One for each of `email.ports`, in their order."""
    return tuple(_mail_route(port, email, defaults) for port in email.ports)


def mail_route_name(port: MailPort) -> str:
    """`smtp-25`."""
    return f"{port.kind}-{port.port}"


def _mail_route(port: MailPort, email: Email, defaults: Defaults) -> Route:
    # How many there are is the mail process's to count: it knows who may go (mail/server/slots.py).
    security = evolve(email.security, max_connections=None)
    return Route(
        name=mail_route_name(port),
        match=Match(ports=(PortRange(start=port.port, end=port.port),), listen=port.listen),
        action=MailHandover(kind=port.kind),
        security=RouteSecurity.of(security),
        timeouts=defaults.timeouts,
    )


def certified_name(route: Route) -> str | None:
    """One of its domains that a certificate can be for; None where it has none."""
    return next((name for name in route.match.domains or () if not name.startswith(REGEX)), None)


def needs_bytes(route: Route) -> bool:
    """Whether the route cannot be chosen before the client has sent something: TLS, a Host to compare, a request."""
    if isinstance(route.action, MailHandover):
        return False
    return route.tls is not None or route.match.domains is not None or uses_http(route)


def carries_http(route: Route) -> bool:
    """Whether the router could see requests on it at all: not inside of TLS that is passed through, nor in mail, nor
    where a handler takes the whole connection.
    """
    if isinstance(route.action, MailHandover | Handler):
        return False
    return route.tls is None or route.tls.mode != "passthrough"


def http_key(route: Route) -> str | None:
    """A key by which the route says something that only HTTP has: a request to answer, or what one must be like."""
    match, action = route.match, route.action
    if isinstance(action, Redirect | Respond | Static):
        return f"action.type {action.type}"
    if isinstance(action, Block) and action.answers:
        return "action.status"
    for word, asked in (("path", match.path), ("methods", match.methods), ("headers", match.headers)):
        if asked is not None:
            return f"match.{word}"
    for way in feature_keys(route):
        return spell(way)
    return "match.domains" if route.tls is None and match.domains is not None else None


def uses_http(route: Route) -> bool:
    """Whether the route by itself is one of HTTP: it says so, or uses a key of it."""
    if not carries_http(route):
        return False
    return route.protocol == "http" if route.protocol is not None else http_key(route) is not None


class Protocols:
    """The protocol of each of many routes: `http` if any route of its port and name uses an HTTP key, else `tcp`.

    Plain routes of one port are told apart by Host, so they share every name. `listen`: the global one; without it,
    routes that do not say where they listen share every address.
    """

    def __init__(self, routes: Iterable[Route], listen: Sequence[Address] | None = None) -> None:
        self._listen = listen
        self._doors: dict[tuple[bool, tuple[PortRange, ...], tuple[Address, ...] | None], NameSet] = {}
        for route in routes:
            if route.enabled and uses_http(route):
                plain = route.tls is None
                names = self._doors.setdefault((plain, route.match.ports, route.match.listen), NameSet())
                names.add(None if plain else route.match.domains)

    def of(self, route: Route) -> Protocol:
        """Of one of the routes."""
        if uses_http(route):
            return "http"
        if route.protocol == "tcp" or not carries_http(route):
            return "tcp"
        domains = route.match.domains
        met = (names.meets(domains) for door, names in self._doors.items() if self._meets(route, *door))
        return "http" if any(met) else "tcp"

    def _meets(
        self, route: Route, plain: bool, ports: tuple[PortRange, ...], listen: tuple[Address, ...] | None
    ) -> bool:
        """Whether `route` can be met behind that door: plain with plain, on a common port and address."""
        if (route.tls is None) != plain or not ports_overlap(route.match.ports, ports):
            return False
        here, there = route.match.listen or self._listen, listen or self._listen
        return here is None or there is None or listen_overlap(here, there)


def protocol(route: Route, routes: Iterable[Route], listen: Sequence[Address] | None = None) -> Protocol:
    """The protocol of one route among `routes`; for many of them, make one `Protocols`."""
    return Protocols(routes, listen).of(route)


def bind_addresses(config: Config) -> tuple[tuple[Address, int], ...]:
    """Every (address, port) that must be bound, each once, by port.

    For each port the addresses of all its routes; where 0.0.0.0 or :: is among them, the others of that family are left
    out, because the wildcard serves them too.
    """
    by_port: dict[int, dict[Address, None]] = {}
    for addresses, ports in _doors(config):
        for port in ports:
            by_port.setdefault(port, {}).update(dict.fromkeys(addresses))
    return tuple((address, port) for port in sorted(by_port) for address in _without_covered(by_port[port]))


def _doors(config: Config) -> Iterator[tuple[Sequence[Address], Iterable[int]]]:
    """(addresses, ports), the ports of all routes with the same addresses together: ranges may be wide and many."""
    grouped: dict[tuple[Address, ...], set[tuple[int, int]]] = {}
    for route in effective_routes(config):
        ranges = grouped.setdefault(route.match.listen or config.listen, set())
        ranges.update((given.start, given.end) for given in route.match.ports)
    for addresses, ranges in grouped.items():
        ports: set[int] = set()
        highest = 0
        for start, end in sorted(ranges):
            ports.update(range(max(start, highest + 1), end + 1))
            highest = max(highest, end)
        yield addresses, ports


def _without_covered(addresses: Iterable[Address]) -> list[Address]:
    given = list(addresses)
    wildcards = {address.version for address in given if address.is_unspecified}
    kept = [address for address in given if address.is_unspecified or address.version not in wildcards]
    return sorted(kept, key=lambda address: (address.version, int(address)))
