"""Routes and mail ports that meet at the same port and address: who may share it, and who is never reached.

A connection walks the routes of its port in their order (config/order.py), among those whose listen, client_ips and
time hold. The first that needs no bytes takes it; one that needs some makes it wait for the client. So a plain
`forward` or `mail` route, whose client may itself be waiting for the server, must come before every route that needs
bytes. Where all the others are plain HTTP, a `forward` may come last: there the client speaks first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence

from attrs import field, frozen

from dcrouter.config import times
from dcrouter.config.actions import Forward, Handler, MailHandover
from dcrouter.config.admin import Config
from dcrouter.config.effective import needs_bytes
from dcrouter.config.match import Address, Match, Network, PortRange
from dcrouter.config.order import Rank, best_rank
from dcrouter.config.overlap import client_intervals, clients_overlap, listen_overlap, overlapping, ports_overlap
from dcrouter.config.place import Place
from dcrouter.config.read import Reader
from dcrouter.config.routes import Route
from dcrouter.config.times import TimeWindow


@frozen
class Door:
    """What is known of a connection before its first byte; `listen` is the global one where the route has none."""

    ports: tuple[PortRange, ...]
    listen: tuple[Address, ...]
    clients: tuple[Network, ...] | None
    time: TimeWindow | None = None

    def meets(self, other: Door) -> bool:
        """Whether some connection comes through both."""
        return (
            ports_overlap(self.ports, other.ports)
            and listen_overlap(self.listen, other.listen)
            and clients_overlap(self.clients, other.clients)
            and times.meet(self.time, other.time)
        )

    def covers(self, other: Door) -> bool:
        """Whether all that comes through `other` comes through this one, as far as that can be told by looking."""
        return (
            (self.clients is None or self.clients == other.clients)
            and (self.time is None or self.time == other.time)
            and all(any(a.start <= b.start and b.end <= a.end for a in self.ports) for b in other.ports)
            and all(
                any(a == b or (a.is_unspecified and a.version == b.version) for a in self.listen) for b in other.listen
            )
        )


@frozen
class Group:
    """Routes with one door; `best`: the first rank among the names of each."""

    door: Door
    routes: list[tuple[Rank, Route]] = field(factory=list)


def check_doors(config: Config, root: Place, reader: Reader) -> set[int]:
    """`root`: the document. The identities of routes that are never reached, of which it has warned."""
    routes = [route for route in config.routes if route.enabled]
    _check_handovers(config, routes, root, reader)
    _check_mail(config, root, reader)
    plain = groups(config, (route for route in routes if _client_may_wait(route)))
    tls = groups(config, (route for route in routes if needs_bytes(route) and route.tls is not None))
    http = groups(config, (route for route in routes if needs_bytes(route) and route.tls is None))
    told: set[int] = set()
    for waiting, others in meeting(plain, tls):
        for _, route in waiting.routes:
            _check_waiting(route, others, others.routes[0], reader, told)
    for waiting, others in meeting(plain, http):
        for _, route in waiting.routes:
            if isinstance(route.action, MailHandover | Handler):
                _check_waiting(route, others, others.routes[0], reader, told)
    return _warn_of_unreached(config, routes, reader)


def _client_may_wait(route: Route) -> bool:
    return not needs_bytes(route) and isinstance(route.action, Forward | Handler | MailHandover)


def _check_waiting(route: Route, others: Group, first: tuple[Rank, Route], reader: Reader, told: set[int]) -> None:
    """`route` must come before `first`, or its client waits for a server that waits for the client."""
    if best_rank(route) < first[0] or id(route) in told:
        return
    told.add(id(route))
    other = first[1]
    reader.place(route).at("match", "ports").tell(
        f"cannot be told apart from route {other.name!r}, which needs the client's first bytes: a client that waits "
        f"for the server would wait for ever (give it a priority above {other.priority}, or another port)"
    )


def _check_handovers(config: Config, routes: Sequence[Route], root: Place, reader: Reader) -> None:
    """A `mail` route needs a mail server to hand its connections to, or its clients wait for ever."""
    if config.email is not None or root.findings.touch(("email",)):
        return
    for route in routes:
        if isinstance(route.action, MailHandover):
            reader.place(route).at("action", "type").tell(
                "no mail server would take it: `email` is missing (its `ports` make such routes by themselves)"
            )


def _check_mail(config: Config, root: Place, reader: Reader) -> None:
    """A port of email.ports is nobody else's on the same address."""
    if config.email is None:
        return
    if root.findings.touch(("email", "ports")) and not any(id(port) in reader.places for port in config.email.ports):
        return
    for at, port in enumerate(config.email.ports):
        own = Door((PortRange(start=port.port, end=port.port),), port.listen or config.listen, None)
        for earlier in config.email.ports[:at]:
            if earlier.port == port.port and listen_overlap(own.listen, earlier.listen or config.listen):
                reader.place(port).tell(f"port {port.port} is listed twice for the same address")
                break
            if (earlier.port, earlier.kind) == (port.port, port.kind):
                reader.place(port).tell(f"port {port.port} is listed twice: name all its addresses in one `listen`")
                break
        for route in config.routes:
            if route.enabled and own.meets(door_of(config, route, everyone=True)):
                reader.place(route).at("match", "ports").tell(
                    f"port {port.port} of the same address belongs to mail (email.ports)"
                )


def _warn_of_unreached(config: Config, routes: Sequence[Route], reader: Reader) -> set[int]:
    """Routes behind one that takes all of their connections: at once, or by the same kind of first bytes."""
    order = {id(route): at for at, route in enumerate(routes)}
    greedy = [route for route in routes if _takes_all(route.match)]
    told: set[int] = set()
    for taker, others in meeting(groups(config, greedy), groups(config, routes)):
        if not taker.door.covers(others.door):
            continue
        first = {speech(route): (key, route) for key, route in reversed(taker.routes)}
        for best, route in others.routes:
            own = speech(route)
            for one in ("nothing", own):
                by = first.get(one)
                if by is None or by[1] is route or id(route) in told:
                    continue
                # Equal routes that need the same bytes are warned of in equals.py, as are those that need some before
                # one that needs none.
                if by[0] < best or (by[0] == best and one != own and order[id(by[1])] < order[id(route)]):
                    told.add(id(route))
                    reader.place(route).warn(
                        f"is never reached: route {by[1].name!r} takes all of its connections first"
                    )
    return told


def _takes_all(match: Match) -> bool:
    """Whether nothing is asked but what a door asks."""
    return match.domains is None and match.time is None and not (match.asks_hello or match.asks_request)


def speech(route: Route) -> str:
    """What the first bytes must look like: routes that differ in it are told apart by that."""
    return "nothing" if not needs_bytes(route) else "plain" if route.tls is None else "tls"


def door_of(config: Config, route: Route, *, everyone: bool = False) -> Door:
    match = route.match
    if everyone:
        return Door(match.ports, match.listen or config.listen, None)
    return Door(match.ports, match.listen or config.listen, match.client_ips, match.time)


def groups(config: Config, routes: Iterable[Route]) -> list[Group]:
    """By door; in each the routes in the order in which a connection meets them."""
    by_door: dict[Door, Group] = {}
    for route in routes:
        door = door_of(config, route)
        best = best_rank(route)
        by_door.setdefault(door, Group(door)).routes.append((best, route))
    for group in by_door.values():
        group.routes.sort(key=lambda one: one[0])
    return list(by_door.values())


def meeting(ones: Sequence[Group], others: Sequence[Group]) -> Iterator[tuple[Group, Group]]:
    """Pairs whose doors meet, each once; by ports first and clients then, because most doors have their own of one."""
    near, far = _by_ports(ones), _by_ports(others)
    for at, beside in overlapping(
        [_port_intervals(cluster) for cluster in near], [_port_intervals(one) for one in far]
    ):
        if listen_overlap(near[at][0].door.listen, far[beside][0].door.listen):
            clients = [[client_intervals(group.door.clients) for group in one] for one in (near[at], far[beside])]
            for one, other in overlapping(*clients):
                if times.meet(near[at][one].door.time, far[beside][other].door.time):
                    yield near[at][one], far[beside][other]


def _by_ports(groups: Sequence[Group]) -> list[list[Group]]:
    """Those with the same ports and addresses together."""
    clusters: dict[Hashable, list[Group]] = {}
    for group in groups:
        clusters.setdefault((group.door.ports, group.door.listen), []).append(group)
    return list(clusters.values())


def _port_intervals(cluster: Sequence[Group]) -> list[tuple[int, int]]:
    return [(ports.start, ports.end) for ports in cluster[0].door.ports]
