"""Routes that are equal in all but the order in the file, for some connection or request: a warning, because whoever
moves one of them in the file sends its traffic elsewhere.

Routes that are never met by the same request are not equal: other methods, other versions, other hours, other values of
the same header. As far as that can be told by looking: two regular expressions, or two values of one header of which
one is an expression, are taken to have something in common unless their literal beginnings or ends differ.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Set

from dcrouter.config import paths
from dcrouter.config.admin import Config
from dcrouter.config.checks.doors import groups, meeting, speech
from dcrouter.config.conditions import value_expression
from dcrouter.config.match import Match
from dcrouter.config.names import REGEX
from dcrouter.config.order import Spot, rank, spots
from dcrouter.config.read import Reader
from dcrouter.config.regex import may_meet
from dcrouter.config.routes import Route

MOST_BEFORE = 100
"""Routes of equal rank with which one is compared: thousands of them would take minutes, for a warning."""


def check_equals(config: Config, reader: Reader, unreached: Set[int]) -> None:
    """Warn of each route that has an equal before it in the file. `unreached`: identities of routes that were warned of
    already.
    """
    routes = [route for route in config.routes if route.enabled]
    alike: dict[Hashable, dict[int, list[Spot]]] = {}
    for at, route in enumerate(routes):
        for spot in spots(route.match):
            own = speech(route)
            # A route that needs no bytes meets those who send either.
            for one in ("plain", "tls") if own == "nothing" else (own,):
                key = (one, *_kind(spot), rank(route, spot))
                alike.setdefault(key, {}).setdefault(at, []).append(spot)
    told = {at for at, route in enumerate(routes) if id(route) in unreached}
    for found in alike.values():
        if len(found) > 1:
            for some in _behind_one_door(config, routes, sorted(found)):
                _warn(routes, some, found, reader, told)


def _warn(
    routes: Sequence[Route], some: Sequence[int], found: dict[int, list[Spot]], reader: Reader, told: set[int]
) -> None:
    """`some`: places in `routes`, ascending, of equal rank; `found`: the spots by which each has it."""
    for number, at in enumerate(some):
        if at in told:
            continue
        for before in some[: min(number, MOST_BEFORE)]:
            one, other = routes[before], routes[at]
            if _spots_meet(found[before], found[at]) and not _apart(one.match, other.match):
                told.add(at)
                reader.place(other).warn(
                    f"is equal to route {one.name!r} in all that decides: only the file's order puts it behind"
                )
                break


def _kind(spot: Spot) -> tuple[str | None, str | None]:
    """What a name and a path must have in common to be compared one by one: expressions, and paths with wildcards, may
    meet others than themselves.
    """
    name, path = spot
    return (
        REGEX if name is not None and name.startswith(REGEX) else name,
        "*" if path is not None and "*" in path else path,
    )


def _behind_one_door(config: Config, routes: Sequence[Route], some: Sequence[int]) -> list[list[int]]:
    """Those of `some` that a connection can meet together: for each pair of doors that meet, and for each door."""
    place = {id(routes[at]): at for at in some}
    doors = groups(config, (routes[at] for at in some))
    pairs = [(one, one) for one in doors if len(one.routes) > 1]
    pairs += [(one, other) for one, other in meeting(doors, doors) if one is not other]
    return [sorted({place[id(route)] for _, route in (*one.routes, *other.routes)}) for one, other in pairs]


def _spots_meet(ones: Sequence[Spot], others: Sequence[Spot]) -> bool:
    return any(_names_meet(a[0], b[0]) and _paths_meet(a[1], b[1]) for a in ones for b in others)


def _names_meet(one: str | None, other: str | None) -> bool:
    return one == other or (one is not None and other is not None and may_meet(one, other))


def _paths_meet(one: str | None, other: str | None) -> bool:
    return one == other or (
        one is not None and other is not None and paths.meet(paths.pattern(one), paths.pattern(other))
    )


def _apart(one: Match, other: Match) -> bool:
    """Whether no request can meet both, names, paths and doors left aside."""
    return (
        _nothing_common(one.methods, other.methods)
        or _nothing_common(one.tls_versions, other.tls_versions)
        or _headers_apart(one.headers or {}, other.headers or {})
    )


def _nothing_common(one: Sequence[str] | None, other: Sequence[str] | None) -> bool:
    return one is not None and other is not None and not set(one) & set(other)


def _headers_apart(one: dict[str, str], other: dict[str, str]) -> bool:
    theirs = {name.lower(): value for name, value in other.items()}
    return any(name.lower() in theirs and not _values_meet(value, theirs[name.lower()]) for name, value in one.items())


def _values_meet(one: str, other: str) -> bool:
    if one.startswith(REGEX) and other.startswith(REGEX):
        return may_meet(one, other)
    if one.startswith(REGEX) or other.startswith(REGEX):
        expression, value = (one, other) if one.startswith(REGEX) else (other, one)
        return value_expression(expression).fullmatch(value) is not None
    return one == other
