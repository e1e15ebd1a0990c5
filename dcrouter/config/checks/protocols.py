"""Routes that one connection may need one after the other must meet it alike: as HTTP, in one TLS session.

Which route a request belongs to is known when its head has come; TLS is over by then, and the first bytes have been
taken for HTTP. So where an http route asks for what only a request tells (on a plain port: be it only its Host), the
routes of its names that come behind it, to which it may leave requests, must be http routes whose TLS is ended here and
asks clients for the same certificates. Of our own ones, that of the first route of the name is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

from dcrouter.config.actions import MailHandover
from dcrouter.config.admin import Config
from dcrouter.config.checks.doors import groups, meeting
from dcrouter.config.effective import Protocols, effective_routes
from dcrouter.config.names import REGEX, name_expression, wildcards
from dcrouter.config.order import Rank, rank, spots
from dcrouter.config.overlap import NameSet
from dcrouter.config.place import Place
from dcrouter.config.read import Reader
from dcrouter.config.routes import Route
from dcrouter.config.tls import ClientAuth

HTTP_ALPN = ("http/1.1",)
"""What http routes can speak so far."""


def check_protocols(config: Config, reader: Reader) -> None:
    """Of all enabled routes of the file."""
    protocols = Protocols(effective_routes(config), config.listen)
    by_session: dict[Session, list[Route]] = {}
    asking: dict[Session, list[Route]] = {}
    for route in config.routes:
        if not route.enabled or isinstance(route.action, MailHandover):
            continue
        protocol = protocols.of(route)
        session = Session.of(route, protocol)
        by_session.setdefault(session, []).append(route)
        if protocol == "http":
            _check_alpn(route, reader.place(route))
            if route.tls is None or route.match.asks_request:
                asking.setdefault(session, []).append(route)
    for session, routes in asking.items():
        others = [
            route
            for other, met in by_session.items()
            if other != session and other.secure == session.secure
            for route in met
        ]
        _check_agree(config, session, routes, others, reader)


def _check_alpn(route: Route, place: Place) -> None:
    for at, name in enumerate(route.tls.alpn or () if route.tls is not None else ()):
        if name not in HTTP_ALPN:
            what = "HTTP/2 is not spoken on http routes yet" if name == "h2" else "an http route does not speak it"
            place.at("tls", "alpn", at).tell(f"{what}: leave `alpn` out, or say protocol: tcp to pass it on untouched")


@frozen
class Session:
    """What a connection is taken for. `secure`: it begins with TLS, so that it never meets plain routes; `ended`: its
    TLS is ended here; `protocol`: what is inside; `clients`: what clients are asked for.
    """

    secure: bool
    ended: bool
    protocol: str
    clients: ClientAuth | None

    @classmethod
    def of(cls, route: Route, protocol: str) -> Session:
        tls = route.tls
        if tls is None:
            return cls(secure=False, ended=True, protocol=protocol, clients=None)
        return cls(secure=True, ended=tls.mode != "passthrough", protocol=protocol, clients=tls.client_auth)


def _check_agree(
    config: Config, session: Session, asking: Sequence[Route], others: Sequence[Route], reader: Reader
) -> None:
    """`asking`: routes that look at requests, of one `session`; `others`: those of other sessions."""
    told: set[int] = set()
    names: dict[int, _Asking] = {}
    for group, met in meeting(groups(config, asking), groups(config, others)):
        found = names.setdefault(id(group), _Asking(route for _, route in group.routes))
        for _, route in met.routes:
            before = found.before(route) if id(route) not in told else None
            if before is not None:
                told.add(id(route))
                _tell(route, before, reader.place(route))


def _tell(route: Route, before: Route, place: Place) -> None:
    who = f"route {before.name!r} of the same port and name looks at requests, and leaves others to this one: "
    if route.tls is not None and route.tls.mode == "passthrough":
        place.at("tls", "mode").tell(f"{who}TLS that was ended for it cannot be passed through any more")
    elif route.protocol == "tcp":
        place.at("protocol").tell(f"{who}it cannot be tcp")
    else:
        place.at("tls", "client_auth").tell(f"{who}both must ask clients for the same certificates")


class _Asking:
    """Routes of one door and session that look at requests: their names, with the first rank of each."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._names = NameSet()
        self._first: dict[str | None, tuple[Rank, Route]] = {}
        self._expressions: list[str] = []
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        self._names.add(route.match.domains)
        for spot in spots(route.match):
            found = (rank(route, spot), route)
            before = self._first.get(spot[0])
            if before is None or found[0] < before[0]:
                self._first[spot[0]] = found
                if before is None and spot[0] is not None and spot[0].startswith(REGEX):
                    self._expressions.append(spot[0])

    def before(self, route: Route) -> Route | None:
        """One of them that some request may meet before `route`."""
        if not self._names.meets(route.match.domains):
            return None
        for name in route.match.domains or (None,):
            last = max(rank(route, spot) for spot in spots(route.match) if spot[0] == name)
            for pattern in self._patterns_meeting(name):
                first, other = self._first[pattern]
                if first < last:
                    return other
        return None

    def _patterns_meeting(self, name: str | None) -> Iterator[str | None]:
        """Those of our names that have one in common with the pattern `name`."""
        if name is None:
            yield from self._first
        elif name.startswith(("*", REGEX)):
            for pattern in self._first:
                one = NameSet()
                one.add(None if pattern is None else (pattern,))
                if one.meets((name,)):
                    yield pattern
        else:
            for pattern in (name, *wildcards(name), None):
                if pattern in self._first:
                    yield pattern
            yield from (one for one in self._expressions if name_expression(one).fullmatch(name) is not None)
