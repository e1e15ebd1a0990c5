"""The order in which a connection finds its route: one definition for the table, for `check` and for `dcrouter routes`.

Higher `priority` first; then the more specific match: exact name > longest wildcard > any name, `*.` before `**.` of
equal length; then more conditions (one each for listen and client_ips; never ports); then the order in the file.
"""

from __future__ import annotations

from dcrouter.config.routes import Route

Specificity = tuple[int, int, int]
Rank = tuple[int, Specificity, int]
OrderKey = tuple[int, Specificity, int, int]


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
    return (0, 0, 0)


def rank(route: Route, pattern: str | None) -> Rank:
    """All of the order but the place in the file: routes that are equal in it are told apart by nothing else."""
    conditions = (route.match.listen is not None) + (route.match.client_ips is not None)
    return (-route.priority, specificity(pattern), -conditions)


def order_key(route: Route, pattern: str | None, index: int) -> OrderKey:
    """For one of the route's names (None: it has none) and its place in the table; ascending: the first wins."""
    return (*rank(route, pattern), index)
