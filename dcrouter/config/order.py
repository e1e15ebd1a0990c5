"""The order in which a connection finds its route: one definition for the table, for `check`, `routes` and `explain`.

Higher `priority` first; then the more specific match: exact name > longest wildcard > regular expression > any name,
`*.` before `**.` of equal length; then the longest path; then more conditions (one each for listen, alpn, tls_versions,
client_ips, methods, each header, time; never ports); then the order in the file.

A route with several names or paths has a place for each of their pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

from dcrouter.config import paths
from dcrouter.config.match import Match
from dcrouter.config.names import REGEX
from dcrouter.config.paths import PathSpecificity
from dcrouter.config.routes import Route

Specificity = tuple[int, int, int]
Rank = tuple[int, Specificity, PathSpecificity, int]
OrderKey = tuple[int, Specificity, PathSpecificity, int, int]
Spot = tuple[str | None, str | None]
"""One of a route's names and one of its paths; None where it has none."""


def specificity(pattern: str | None) -> Specificity:
    """How exactly a pattern of `match.domains` tells a name, None being any name; ascending: the more exact first.

    Comparable for patterns that match the same name: there a longer wildcard is one with more characters.
    """
    if pattern is None:
        return (3, 0, 0)
    if pattern.startswith("**."):
        return (1, 3 - len(pattern), 1)
    if pattern.startswith("*."):
        return (1, 2 - len(pattern), 0)
    return (2, 0, 0) if pattern.startswith(REGEX) else (0, 0, 0)


def conditions(match: Match) -> int:
    """How many conditions there are beside ports, names and paths."""
    alone = (match.listen, match.alpn, match.tls_versions, match.client_ips, match.methods, match.time)
    return sum(one is not None for one in alone) + len(match.headers or ())


def spots(match: Match) -> Iterator[Spot]:
    """Every pair of a name and a path."""
    return ((name, path) for name in match.domains or (None,) for path in match.path or (None,))


def rank(route: Route, spot: Spot) -> Rank:
    """All of the order but the place in the file: routes that are equal in it are told apart by nothing else."""
    name, path = spot
    return (-route.priority, specificity(name), paths.specificity(path), -conditions(route.match))


def best_rank(route: Route) -> Rank:
    """The first of its ranks."""
    return min(rank(route, spot) for spot in spots(route.match))


def order_key(route: Route, spot: Spot, index: int) -> OrderKey:
    """For one spot of the route and its place in the table; ascending: the first wins."""
    return (*rank(route, spot), index)
