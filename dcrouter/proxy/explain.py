"""Why a connection, or a request, gets the route that it gets: the order walked from its beginning, reason by reason.

The table (table.py) jumps to the answer; this walks to it, over the same values, and needs no running edge. What the
question leaves open (no client address, no path) decides nothing: routes that ask for it are `open`, and the first one
behind them that surely fits is said to win unless one of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from attrs import field, frozen

from dcrouter.config import paths
from dcrouter.config.admin import Config
from dcrouter.config.effective import Protocols, effective_routes, needs_bytes
from dcrouter.config.names import REGEX, name_expression, wildcards
from dcrouter.config.order import Rank, Spot, order_key, rank, spots
from dcrouter.config.paths import Segments
from dcrouter.config.routes import Route
from dcrouter.match.addresses import Networks
from dcrouter.match.headers import Headers
from dcrouter.match.times import Times
from dcrouter.proxy.question import Question

Verdict = Literal["wins", "lost", "open"]


@frozen(kw_only=True)
class Considered:
    """One place of a route in the order. `name`, `path`: the patterns that stand there. `named`: its name fits."""

    route: str
    name: str | None
    path: str | None
    verdict: Verdict
    why: str
    named: bool


@frozen(kw_only=True)
class Explanation:
    """`winner`: the route's name; None where nobody, or `defaults.target`, takes it. `status`: what an HTTP client is
    answered instead of a route, or None. `notes`: what else there is to know, in sentences.
    """

    winner: str | None
    protocol: str | None
    status: int | None = None
    notes: tuple[str, ...] = ()
    considered: tuple[Considered, ...] = field(default=())


@frozen
class _Place:
    route: Route
    spot: Spot
    rank: Rank
    protocol: str


_Speech = Callable[[_Place, bool], str | None]
"""(place, whether a place before it waits for the first bytes) -> why they are not for it, or None."""


def explain(config: Config, question: Question) -> Explanation:
    """The answer for one question."""
    routes = effective_routes(config)
    protocols = Protocols(routes, config.listen)
    here = [
        (at, route) for at, route in enumerate(routes) if any(question.port in given for given in route.match.ports)
    ]
    if not here:
        return Explanation(winner=None, protocol=None, notes=(f"no route listens on port {question.port}",))
    spoken = {route.name: protocols.of(route) for _, route in here}
    ordered = sorted(
        ((order_key(route, spot, at), spot, route) for at, route in here for spot in spots(route.match)),
        key=lambda item: item[0],
    )
    places = [_Place(route, spot, rank(route, spot), spoken[route.name]) for _, spot, route in ordered]
    return _Walk(question, places).answer(fallback=config.defaults.target is not None)


class _Walk:
    def __init__(self, question: Question, places: Sequence[_Place]) -> None:
        self._question = question
        self._places = places

    def answer(self, *, fallback: bool) -> Explanation:
        """`fallback`: there is a defaults.target."""
        question = self._question
        if not question.tls:
            http = any(place.protocol == "http" and place.route.tls is None for place in self._places)
            return self._of_request(question.host, self._plain, None, fallback=fallback, http=http)
        name = question.sni
        considered, met = self._through(name, self._tls)
        if met is None and name is None:
            # A client that names nobody gets the first that ends TLS, whatever names it is for.
            considered, met = self._through(name, self._ending_tls)
        if met is None or met.protocol != "http" or met.route.tls is None:
            return _explanation(considered, met, fallback=fallback)
        host = name if question.host is None else question.host
        return self._of_request(host, self._tls, met, fallback=fallback, http=True)

    def _of_request(
        self, host: str | None, speech: _Speech, met: _Place | None, *, fallback: bool, http: bool
    ) -> Explanation:
        """`met`: the place by which TLS was settled; `http`: a request that nobody wants is told so."""
        question = self._question
        readings = (None,) if question.path is None else paths.readings(question.path)
        considered, winner = self._through(host, speech, readings[0], request=True)
        for other in readings[1:]:
            if _route_of(self._through(host, speech, other, request=True)[1]) is not _route_of(winner):
                note = "servers read this path in different ways, which lead to different routes"
                return _explanation(considered, None, status=400, note=note)
        if winner is None:
            return _explanation(considered, None, fallback=fallback, status=404 if http else None)
        if met is not None and not _share(met, winner, same_name=host == question.sni):
            note = f"TLS was met for route {met.route.name!r}, and {winner.route.name!r} has TLS of its own"
            return _explanation(considered, None, status=421, note=note)
        return _explanation(considered, winner)

    def _through(
        self, name: str | None, speech: _Speech, path: Segments | None = None, *, request: bool = False
    ) -> tuple[list[Considered], _Place | None]:
        """Every place in its order, with what became of it; and the winner. `path`: one reading of it.

        `speech`: why the client's first bytes are not for a place. `request`: what requests are asked counts.
        """
        considered: list[Considered] = []
        winner: _Place | None = None
        waits = False
        for place in self._places:
            named = speech == self._ending_tls or _fits(place.spot[0], name)
            why, is_open = speech(place, waits), False
            if why is None and not named:
                why, is_open = self._misnamed(place.spot[0], name)
            if why is None:
                why, is_open = _first_of(self._reasons(place, path, request=request))
            waits = waits or (needs_bytes(place.route) and self._early(place.route) is None)
            if winner is not None and (why is None or is_open):
                why, is_open = _behind(winner, place), False
            if why is None:
                winner = place
            considered.append(
                Considered(
                    route=place.route.name,
                    name=place.spot[0],
                    path=place.spot[1],
                    verdict="open" if is_open else "lost" if why is not None else "wins",
                    why=why or _strength(place),
                    named=named or is_open,
                )
            )
        return considered, winner

    # Whether the client's first bytes are for a place.

    def _plain(self, place: _Place, waits: bool) -> str | None:
        return "it is for TLS, and the client is plain" if place.route.tls is not None else None

    def _tls(self, place: _Place, waits: bool) -> str | None:
        if place.route.tls is not None:
            return None
        if needs_bytes(place.route):
            return "it is plain, and the client speaks TLS"
        return "it is plain, and a route before it waits for the first bytes, which are TLS" if waits else None

    def _ending_tls(self, place: _Place, waits: bool) -> str | None:
        tls = place.route.tls
        ends = tls is not None and tls.mode != "passthrough"
        return None if ends else "the client names nobody, and this route ends no TLS"

    # Whether its conditions hold: (why not, whether that is only because it was not told).

    def _misnamed(self, pattern: str | None, name: str | None) -> tuple[str, bool]:
        question = self._question
        if name is not None:
            return f"{name} is not {pattern}", False
        if not question.tls and not question.has_request:
            return f"it is for {pattern}, and no Host is told (--host)", True
        return f"the client names nobody, and it is for {pattern}", False

    def _reasons(self, place: _Place, path: Segments | None, *, request: bool) -> Iterator[tuple[str, bool]]:
        question, match = self._question, place.route.match
        early = self._early(place.route)
        if early is not None:
            yield early
        if match.alpn is not None:
            wanted = " or ".join(match.alpn)
            if question.alpn is None:
                yield f"it asks for {wanted} by ALPN, and no offer is told (--alpn)", True
            elif not set(match.alpn) & set(question.alpn):
                yield f"the client does not offer {wanted} by ALPN", False
        if match.tls_versions is not None:
            wanted = " or ".join(match.tls_versions)
            if question.tls_version is None:
                yield f"it is for {wanted}, and no version is told (--tls-version)", True
            elif question.tls_version not in match.tls_versions:
                yield f"it is for {wanted}, and the client's newest is {question.tls_version}", False
        if request:
            yield from self._of_head(place, path)

    def _early(self, route: Route) -> tuple[str, bool] | None:
        """Of what can be known before the first byte."""
        question, match = self._question, route.match
        if match.listen is not None and not any(address.is_unspecified for address in match.listen):
            shown = ", ".join(map(str, match.listen))
            if question.local is None:
                return f"it listens on {shown} only, and no address is told (--listen)", True
            if question.local not in match.listen:
                return f"it listens on {shown}, not on {question.local}", False
        if match.client_ips is not None:
            shown = ", ".join(map(str, match.client_ips))
            if question.client is None:
                return f"it is for clients from {shown}, and no address is told (--client-ip)", True
            if not Networks(match.client_ips).covers(question.client):
                return f"it is for clients from {shown}, not for {question.client}", False
        if match.time is not None and not Times(match.time).hold(question.now):
            return "it does not hold at this time", False
        return None

    def _of_head(self, place: _Place, path: Segments | None) -> Iterator[tuple[str, bool]]:
        question, match, wanted = self._question, place.route.match, place.spot[1]
        if wanted is not None:
            if question.path is None:
                yield f"it asks for the path {wanted}, and none is told (--path)", True
            elif not paths.pattern(wanted).matches(path):
                yield f"the path is not {wanted}", False
        if match.methods is not None:
            shown = " or ".join(match.methods)
            if question.method is None:
                yield f"it is for {shown}, and no method is told (--method)", True
            elif question.method not in match.methods:
                yield f"it is for {shown}, not for {question.method}", False
        for name, value in (match.headers or {}).items():
            if question.headers is None:
                yield f"it asks for the header {name}: {value}, and none are told (--header)", True
            elif not Headers({name: value}).hold(question):
                yield f"the header {name} is not {value}", False


def _explanation(
    considered: Sequence[Considered],
    winner: _Place | None,
    *,
    fallback: bool = False,
    status: int | None = None,
    note: str | None = None,
) -> Explanation:
    if fallback and winner is None:
        status, note = None, "no route takes it: it goes to defaults.target"
    return Explanation(
        winner=winner.route.name if winner is not None else None,
        protocol=winner.protocol if winner is not None else None,
        status=status,
        notes=() if note is None else (note,),
        considered=tuple(considered),
    )


def _first_of(reasons: Iterable[tuple[str, bool]]) -> tuple[str | None, bool]:
    """What is certain, else what is open, else (None, False)."""
    found: str | None = None
    for why, is_open in reasons:
        if not is_open:
            return why, False
        found = found or why
    return found, found is not None


def _route_of(place: _Place | None) -> Route | None:
    return None if place is None else place.route


def _share(met: _Place, winner: _Place, *, same_name: bool) -> bool:
    """Whether a request of `winner` may come in the TLS session of `met`: as PortTable.find_request decides."""
    one, other = met.route.tls, winner.route.tls
    if met.route is winner.route or one is None or other is None:
        return True
    alike = other.mode != "passthrough" and winner.protocol == met.protocol and one.client_auth == other.client_auth
    return alike and (same_name or one.certificate == other.certificate)


def _fits(pattern: str | None, name: str | None) -> bool:
    if pattern is None or name is None:
        return pattern is None
    if pattern.startswith(REGEX):
        return name_expression(pattern).fullmatch(name) is not None
    return pattern == name or (pattern.startswith("*") and pattern in wildcards(name))


def _behind(winner: _Place, place: _Place) -> str:
    """What decided between two places that both fit."""
    words = (
        "has a higher priority",
        "has the more specific name",
        "has the longer path",
        "has more conditions",
    )
    if winner.route is place.route:
        return "another name or path of the same route comes first"
    for word, one, other in zip(words, winner.rank, place.rank, strict=True):
        if one != other:
            return f"it fits, but {winner.route.name!r} {word}"
    return f"it fits, but {winner.route.name!r} stands before it in the file"


def _strength(place: _Place) -> str:
    name, path = place.spot
    parts = [f"priority {place.route.priority}"] if place.route.priority else []
    parts.append("any name" if name is None else name)
    parts += [path] if path is not None else []
    conditions = -place.rank[3]
    parts += [f"{conditions} condition{'' if conditions == 1 else 's'}"] if conditions else []
    return ", ".join(parts)
