"""Routes that one connection may need one after the other must meet it alike: as HTTP, in one TLS session.

Which route a request belongs to is known when its head has come; TLS is over by then, and the first bytes have been
taken for HTTP. So where an http route asks for what only a request tells (on a plain port: be it only its Host), the
routes of its names that come behind it, to which it may leave requests, must be http routes whose TLS is ended here and
asks clients for the same certificates; unless one between them takes whatever comes. Of our own certificates, that of
the first route of the name is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

from dcrouter.config.actions import Handler, MailHandover
from dcrouter.config.admin import Config
from dcrouter.config.checks.doors import Door, Group, door_of, groups, meeting
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
_EVERY_PATH = "/**"


def check_protocols(config: Config, reader: Reader) -> None:
    """Of all enabled routes of the file."""
    protocols = Protocols(effective_routes(config), config.listen)
    by_session: dict[Session, list[Route]] = {}
    asking: dict[Session, list[Route]] = {}
    takers: dict[Session, _Takers] = {}
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
            found = takers.setdefault(session, _Takers())
            # On a plain port a request for another name may always follow: there nobody takes all.
            if session.secure:
                found.add(route, door_of(config, route))
    for session, routes in asking.items():
        others = [
            route
            for other, met in by_session.items()
            if other != session and other.secure == session.secure
            for route in met
        ]
        _check_agree(groups(config, routes), groups(config, others), takers[session], reader)


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


def _check_agree(asking: Sequence[Group], others: Sequence[Group], takers: _Takers, reader: Reader) -> None:
    """`asking`: routes that look at requests, of one session, whose `takers` leave none; `others`: of other ones."""
    told: set[int] = set()
    names = {id(group): _Asking(route for _, route in group.routes) for group in asking}
    for group, met in meeting(asking, others):
        for _, route in met.routes:
            if id(route) not in told:
                before = names[id(group)].before(route, takers, group.door, met.door)
                if before is not None:
                    told.add(id(route))
                    _tell(route, before, reader.place(route))


def _tell(route: Route, before: Route, place: Place) -> None:
    who = f"route {before.name!r} of the same port and name looks at requests, and leaves others to this one: "
    if route.tls is not None and route.tls.mode == "passthrough":
        place.at("tls", "mode").tell(f"{who}TLS that was ended for it cannot be passed through any more")
    elif isinstance(route.action, Handler):
        place.at("action", "type").tell(f"{who}a handler takes whole connections")
    elif route.protocol == "tcp":
        place.at("protocol").tell(f"{who}it cannot be tcp")
    else:
        place.at("tls", "client_auth").tell(f"{who}both must ask clients for the same certificates")


class _Takers:
    """Routes of one session that take every request of their names, so that none is left to those behind them."""

    def __init__(self) -> None:
        self._by_name: dict[str | None, list[tuple[Rank, Door]]] = {}

    def add(self, route: Route, door: Door) -> None:
        """One of the session's routes, if it is such."""
        match = route.match
        if match.asks_hello or match.time is not None or match.methods is not None or match.headers is not None:
            return
        for spot in spots(match):
            if spot[1] in (None, _EVERY_PATH):
                self._by_name.setdefault(spot[0], []).append((rank(route, spot), door))

    def take(self, name: str | None, last: Rank, doors: Iterable[Door]) -> bool:
        """Whether one with a rank before `last` takes all of the pattern `name` that comes through all of `doors`."""
        return any(
            found < last and any(own.covers(door) for door in doors)
            for wider in _wider(name)
            for found, own in self._by_name.get(wider, ())
        )


def _wider(name: str | None) -> Iterator[str | None]:
    """The patterns that match every name which `name` matches, as far as that can be told by looking."""
    yield name
    if name is None:
        return
    if not name.startswith(REGEX):
        if name.startswith("*."):
            yield f"*{name}"
        plain = name.lstrip("*.")
        yield from (one for one in wildcards(plain) if name == plain or one.startswith("**."))
    yield None


def _narrower(one: str | None, other: str | None) -> str | None:
    """Of two patterns with a name in common, the one that has fewer; where neither lies in the other, either."""
    return other if one in _wider(other) else one


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

    def before(self, route: Route, takers: _Takers, *doors: Door) -> Route | None:
        """One of them that may leave `route` a request: it is met before, and no taker stands between them."""
        if not self._names.meets(route.match.domains):
            return None
        for name in route.match.domains or (None,):
            last = max(rank(route, spot) for spot in spots(route.match) if spot[0] == name)
            for pattern in self._patterns_meeting(name):
                first, other = self._first[pattern]
                if first < last and not takers.take(_narrower(pattern, name), last, doors):
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
