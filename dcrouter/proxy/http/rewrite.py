"""action.path_rewrite: what is asked for instead of the path that the client asked for."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from dcrouter.config.http import PathRewrite
from dcrouter.proxy.http.exchange import Exchange
from dcrouter.proxy.http.features import RequestEdit


def rewrite_edit(rewrite: PathRewrite) -> RequestEdit:
    """What it does to a request. `OPTIONS *`, which has no path, stays."""
    strip = _segments(rewrite.strip_prefix) if rewrite.strip_prefix is not None else []
    prefix = rewrite.strip_prefix or ""
    add = rewrite.add_prefix or ""

    def edit(exchange: Exchange) -> None:
        path, mark, query = exchange.uri.partition("?")
        if not path.startswith("/"):
            return
        rest = _without(path, strip) if strip else None
        if rest is not None:
            exchange.fields.set("X-Forwarded-Prefix", prefix)
        exchange.uri = f"{add}{path if rest is None else rest}{mark}{query}"

    return edit


def _segments(path: str) -> list[bytes]:
    return [unquote_to_bytes(part) for part in path[1:].split("/")]


def _without(path: str, strip: list[bytes]) -> str | None:
    """The rest of `path` behind the segments `strip`, which are compared as `match.path` does: decoded, without empty
    ones and `.` in between. It begins with one slash: two would name a host to many a reader. None: it has others.
    """
    at = 0
    parts = path[1:].split("/")
    for wanted in strip:
        while at < len(parts) - 1 and parts[at] in ("", "."):
            at += 1
        if at == len(parts) or unquote_to_bytes(parts[at]) != wanted:
            return None
        at += 1
    return "/" + "/".join(parts[at:]).lstrip("/")
