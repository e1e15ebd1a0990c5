"""Regular expressions among `match.domains`: how many one connection may have to be compared with, and certificates."""

from __future__ import annotations

from dcrouter.config.admin import Config
from dcrouter.config.names import REGEX
from dcrouter.config.place import Place
from dcrouter.config.read import Reader
from dcrouter.config.routes import Route

MANY = 100
"""Expressions on one port: a name that matches none of them costs some tens of microseconds then."""


def check_expressions(config: Config, reader: Reader) -> None:
    """Warn of ports with many, and of routes for whose names nobody could make a certificate."""
    steps: list[tuple[int, int, Route]] = []
    for route in config.routes:
        count = sum(name.startswith(REGEX) for name in route.match.domains or ())
        if not route.enabled or not count:
            continue
        _check_certificate(route, reader.place(route))
        for ports in route.match.ports:
            steps += [(ports.start, count, route), (ports.end + 1, -count, route)]
    there = 0
    for port, count, route in sorted(steps, key=lambda step: step[:2]):
        there += count
        if there > MANY:
            reader.place(route).at("match", "domains").warn(
                f"there are more than {MANY} regular expressions on port {port}, and one after the other is tried for "
                "names that match none"
            )
            return


def _check_certificate(route: Route, place: Place) -> None:
    tls, names = route.tls, route.match.domains or ()
    ends = tls is not None and tls.mode != "passthrough"
    if ends and tls is not None and tls.certificate == "internal" and all(name.startswith(REGEX) for name in names):
        place.at("tls", "certificate").warn(
            "the internal CA cannot certify what a regular expression stands for: clients would refuse it"
        )
