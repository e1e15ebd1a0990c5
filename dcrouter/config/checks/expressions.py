"""Regular expressions among `match.domains`: how many one connection may have to be compared with, and certificates."""

from __future__ import annotations

from dcrouter.config.admin import Config
from dcrouter.config.names import REGEX
from dcrouter.config.place import Place
from dcrouter.config.read import Reader
from dcrouter.config.routes import Route
from dcrouter.config.tls import Certificates

MANY = 100
"""Expressions on one port: a name that matches none of them costs some tens of microseconds then."""


def check_expressions(config: Config, reader: Reader) -> None:
    """Warn of ports with many, and of routes for whose names nobody could make a certificate."""
    steps: list[tuple[int, int, Route]] = []
    for route in config.routes:
        count = sum(name.startswith(REGEX) for name in route.match.domains or ())
        if not route.enabled or not count:
            continue
        _check_certificate(route, config.certificates, reader.place(route))
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


def _check_certificate(route: Route, certificates: Certificates, place: Place) -> None:
    """ACME orders such names on demand alone; which of the operator's certificates are for them is not compared."""
    tls, names = route.tls, route.match.domains or ()
    if tls is None or tls.mode == "passthrough" or not all(name.startswith(REGEX) for name in names):
        return
    others = certificates.files or certificates.on_demand is not None
    if tls.certificate == "internal" or (tls.certificate == "auto" and not others):
        where = place.at("tls", "certificate") if place.at("tls").says("certificate") else place.at("tls")
        where.warn("the internal CA cannot certify what a regular expression stands for: clients would refuse it")
