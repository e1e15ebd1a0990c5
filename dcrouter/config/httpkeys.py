"""Which keys of a route only HTTP has, beside what it matches and the action's type."""

from __future__ import annotations

from collections.abc import Iterator

from dcrouter.config.actions import Forward, Static
from dcrouter.config.findings import Path
from dcrouter.config.routes import Route


def feature_keys(route: Route) -> Iterator[Path]:
    """The way to each that the route has, such as ("action", "headers")."""
    action = route.action
    if isinstance(action, Forward | Static):
        if action.headers is not None:
            yield "action", "headers"
        if action.path_rewrite is not None:
            yield "action", "path_rewrite"
    if isinstance(action, Forward):
        for at, target in enumerate(action.targets):
            for word in ("path", "methods", "headers"):
                if target.match is not None and getattr(target.match, word) is not None:
                    yield "action", "targets", at, "match", word
    if route.tls is not None and route.tls.hsts is not None:
        yield "tls", "hsts"
    if route.security.request_rate:
        yield "security", "request_rate"
    for word in ("basic_auth", "jwt", "forward_auth"):
        if getattr(route.security, word) is not None:
            yield "security", word
