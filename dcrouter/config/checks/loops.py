"""What would come back: routes that forward to themselves, where one connection would become another until descriptors
run out; redirects to where the request came from, which browsers give up; and mail that is forwarded to where this
service takes mail, and meets its rules again until its hops run out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from dcrouter.config.actions import Forward, Redirect
from dcrouter.config.admin import Config
from dcrouter.config.match import Address
from dcrouter.config.read import Reader
from dcrouter.config.routes import Route
from dcrouter.config.rules import MailForward
from dcrouter.config.targets import SimpleTarget
from dcrouter.config.urls import USUAL_PORTS

_THE_SAME = re.compile(r"(?:(https?)://(\{host\}|[^/{}:]+)(?::([0-9]{1,5}|\{port\}))?)?(?:\{uri\}|\{path\})")
"""scheme, host, port of a redirect that leaves the path alone; all None where it says nothing but that."""


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


def check_redirects(config: Config, reader: Reader) -> None:
    """Only where the request's own host, or one that the route names, and one of its ports are written; a warning, as
    another route may take what comes back.
    """
    for route in config.routes:
        if not route.enabled or not isinstance(route.action, Redirect):
            continue
        found = _THE_SAME.fullmatch(route.action.to)
        ours = "http" if route.tls is None else "https"
        if found is None or found[1] not in (None, ours):
            continue
        host, port = found[2] or "{host}", found[3] or (str(USUAL_PORTS[ours]) if found[1] else "{port}")
        named = host == "{host}" or host.lower() in (route.match.domains or ())
        if named and (port == "{port}" or any(int(port) in given for given in route.match.ports)):
            text = f"clients would come back for ever: this route answers {ours}"
            where = "on whatever port they came to" if port == "{port}" else f"on port {port} itself"
            reader.place(route).at("action", "to").warn(f"{text} {where}")


def check_mail_loops(config: Config, reader: Reader) -> None:
    """As certain as that; a warning, as another rule may take what comes back."""
    email = config.email
    if email is None:
        return
    for rule in email.rules:
        if not isinstance(rule.action, MailForward):
            continue
        place = reader.place(rule).at("action")
        for at, target in enumerate(rule.action.targets):
            for port in email.ports:
                listen = port.listen or config.listen
                if target.port == port.port and any(_reaches(one, listen) for one in _addresses(target)):
                    text = f"mail would come back: this service listens on that address and port ({port.kind})"
                    place.at("targets", at).warn(text)


def _is_own_port(route: Route, target: SimpleTarget) -> bool:
    port = target.port
    return target.host is not None and (port is None or any(port in given for given in route.match.ports))


def _addresses(target: SimpleTarget) -> Iterator[Address]:
    for text in ("127.0.0.1", "::1") if target.host == "localhost" else (target.host or "",):
        try:
            yield ip_address(text)
        except ValueError:
            return


def _comes_back(config: Config, route: Route, address: Address) -> bool:
    """Whether a connection from this host to `address` meets the route's conditions again."""
    reached = _reaches(address, route.match.listen or config.listen)
    clients = route.match.client_ips
    return reached and (clients is None or any(address in network for network in clients))


def _reaches(address: Address, listen: Sequence[Address]) -> bool:
    """Whether a connection from this host to `address` arrives."""
    return address in listen or (
        address.is_loopback and any(one.is_unspecified and one.version == address.version for one in listen)
    )
