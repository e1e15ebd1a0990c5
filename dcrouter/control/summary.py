"""What listens where, in words for people: one hint per listener, such as `https://www.example.com:8443/ (web)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

from dcrouter.config.actions import Handler, MailHandover, Redirect, Respond, Static
from dcrouter.config.names import REGEX
from dcrouter.config.routes import Route
from dcrouter.config.urls import USUAL_PORTS
from dcrouter.control.ports import Listener
from dcrouter.wire.hostport import hostport

SHOWN = 20
"""A range of ports can have thousands of listeners."""


def hints(listeners: Sequence[Listener], routes: Iterable[Route]) -> Iterator[str]:
    """One line per listener, in order, SHOWN of them. A name stands for the address where the first route has one."""
    by_name = {route.name: route for route in routes}
    for listener in listeners[:SHOWN]:
        wanted_by = [by_name[name] for name in listener.routes if name in by_name]
        names = ", ".join(listener.routes[:5]) + (", ..." if len(listener.routes) > 5 else "")
        yield f"{_address(listener, wanted_by)} ({names})"
    if len(listeners) > SHOWN:
        yield f"{len(listeners) - SHOWN} more ports (dcrouter status shows them)"


def scheme(route: Route) -> str:
    """The word before `://` with which a client would reach it."""
    if isinstance(route.action, MailHandover):
        return route.action.kind
    if route.tls is not None:
        return "tls" if route.tls.mode == "passthrough" or isinstance(route.action, Handler) else "https"
    return "http" if isinstance(route.action, Redirect | Respond | Static) else "tcp"


def _address(listener: Listener, routes: Sequence[Route]) -> str:
    if not routes:
        return hostport(listener.address, listener.port)
    word = scheme(routes[0])
    host = listener.address
    if word in USUAL_PORTS:
        names = [name for name in routes[0].match.domains or () if not name.startswith(("*", REGEX))]
        unspecified = ip_address(listener.address).is_unspecified
        if names or unspecified:
            host = names[0] if names else "localhost"
        place = host if listener.port == USUAL_PORTS[word] else hostport(host, listener.port)
        return f"{word}://{place}/" + (
            f" on {hostport(listener.address, listener.port)}" if host != listener.address else ""
        )
    return f"{word}://{hostport(host, listener.port)}"
