"""Routes that would forward to themselves: one connection would become another, until descriptors run out."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from dcrouter.config.actions import Forward
from dcrouter.config.admin import Config
from dcrouter.config.match import Address
from dcrouter.config.read import Reader
from dcrouter.config.routes import Route
from dcrouter.config.targets import Target


def check_loops(config: Config, reader: Reader) -> None:
    """Only what is certain: a literal address (or localhost) that the route listens on, and one of its own ports."""
    for route in config.routes:
        if not route.enabled or not isinstance(route.action, Forward) or route.action.through is not None:
            continue
        place = reader.place(route).at("action")
        for at, target in enumerate(route.action.targets):
            if _is_own_port(route, target) and any(_comes_back(config, route, one) for one in _addresses(target)):
                where = place.at("target") if place.says("target") else place.at("targets", at)
                where.tell("the route would forward to itself: it listens on that address and port")


def _is_own_port(route: Route, target: Target) -> bool:
    port = target.port
    return target.host is not None and (
        port is None or any(given.start <= port <= given.end for given in route.match.ports)
    )


def _addresses(target: Target) -> Iterator[Address]:
    for text in ("127.0.0.1", "::1") if target.host == "localhost" else (target.host or "",):
        try:
            yield ip_address(text)
        except ValueError:
            return


def _comes_back(config: Config, route: Route, address: Address) -> bool:
    """Whether a connection from this host to `address` meets the route's conditions again."""
    listen = route.match.listen or config.listen
    reached = address in listen or (
        address.is_loopback and any(one.is_unspecified and one.version == address.version for one in listen)
    )
    clients = route.match.client_ips
    return reached and (clients is None or any(address in network for network in clients))
