"""What a route asks and nobody could ever tell it: an error, because such a route would never be met.

A name is told by a TLS client or by an HTTP request, ALPN and versions only by a TLS client, path, method and headers
only by a request that the router sees; where the server speaks first, nothing is told at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from dcrouter.config.actions import Handler, MailHandover
from dcrouter.config.effective import http_key
from dcrouter.config.place import Place
from dcrouter.config.routes import Route, RouteTls

_OF_HELLO = ("alpn", "tls_versions")
_OF_REQUEST = ("path", "methods", "headers")


def check_knowable(route: Route, place: Place) -> None:
    """`place`: of the route."""
    match = place.at("match")
    for word, reason in _unknowable(route):
        if match.says(word):
            match.at(word).tell(reason)
    _check_protocol(route, place)


def _unknowable(route: Route) -> Iterator[tuple[str, str]]:
    """(key of `match`, why it can never be known)."""
    if isinstance(route.action, MailHandover):
        for word in ("domains", *_OF_HELLO, *_OF_REQUEST):
            what = "no name" if word == "domains" else "nothing"
            yield word, f"a mail client tells {what} before the server speaks: leave it out"
        return
    if route.tls is None:
        for word in _OF_HELLO:
            yield word, "only a TLS client tells it, and this route is plain: it has no `tls`"
    if isinstance(route.action, Handler):
        for word in _OF_REQUEST if route.tls is not None else ("domains", *_OF_REQUEST):
            yield word, "a handler takes the connection before it has said anything but TLS's hello"
    elif route.tls is not None and route.tls.mode == "passthrough":
        for word in _OF_REQUEST:
            yield word, "nobody sees a request inside TLS that is passed through"


def _check_protocol(route: Route, place: Place) -> None:
    where = place.at("protocol")
    if route.protocol == "http" and isinstance(route.action, Handler):
        where.tell("a handler takes the connection, and nobody sees its requests: leave it out")
    elif route.protocol == "http":
        if isinstance(route.action, MailHandover):
            where.tell("a mail route speaks SMTP: leave it out")
        elif route.tls is not None and route.tls.mode == "passthrough":
            where.tell("nobody sees a request inside TLS that is passed through")
    elif route.protocol == "tcp" and not (route.tls is not None and route.tls.mode == "passthrough"):
        word = http_key(route)
        if word is not None:
            where.tell(f"bytes of a tcp route pass untouched, but {word} needs http")


def check_tls_alpn(tls: RouteTls, place: Place) -> None:
    """`place`: of the route's `tls`."""
    if tls.mode == "passthrough" and place.says("alpn"):
        place.at("alpn").tell("a passthrough route leaves ALPN to the target: match.alpn tells routes apart by it")
