"""Sending to the world: zones that nobody knows, matches that are never asked, names of destinations."""

from __future__ import annotations

from dcrouter.config.findings import meant
from dcrouter.config.mail import Email
from dcrouter.config.names import is_address
from dcrouter.config.place import Place
from dcrouter.config.read import Reader
from dcrouter.config.rules import Mta
from dcrouter.config.units import shown
from dcrouter.config.zones import DEFAULT, check_destination


def check_zones(email: Email, root: Place, reader: Reader) -> None:
    """`root`: the document."""
    findings, place = root.findings, root.at("email")
    if not findings.touch(("email", "zones")):
        _check_named(email, reader)
        _check_matches(email, place.at("zones"))
    if not findings.touch(("email", "destinations")):
        _check_destinations(email, place.at("destinations"))


def _check_named(email: Email, reader: Reader) -> None:
    known = [*email.zones, DEFAULT]
    for rule in email.rules:
        action = rule.action
        if isinstance(action, Mta) and action.zone is not None and action.zone not in known:
            where = reader.place(rule).at("action", "zone")
            where.tell(f"there is no zone {shown(action.zone)}{meant(action.zone, known)}")


def _check_matches(email: Email, place: Place) -> None:
    actions = [rule.action for rule in email.rules]
    asked = any(isinstance(action, Mta) and action.zone is None for action in actions)
    for name, zone in email.zones.items():
        where = place.at(name, "match")
        if zone.match is not None and name == DEFAULT:
            where.warn("has no effect: mail without another zone is in this one anyway")
        elif zone.match is not None and not asked:
            where.warn("is never asked: no rule of type mta leaves the zone open")
        if zone.connection_time <= 0:
            place.at(name, "connection_time").tell("no connection would carry anything")


def _check_destinations(email: Email, place: Place) -> None:
    taken: dict[str, str] = {}
    for name, shape in email.destinations.items():
        where = place.at(name)
        if shape.mx is not None:
            if name == DEFAULT:
                where.at("mx").tell("default is for all that no other entry is about")
            for at, suffix in enumerate(shape.mx):
                if suffix in taken:
                    where.at("mx", at).tell(f"{shown(suffix)} is also of {shown(taken[suffix])}")
                taken.setdefault(suffix, name)
        elif name != DEFAULT:
            _check_domain(name, where)


def _check_domain(name: str, place: Place) -> None:
    try:
        domain = check_destination(name)
        if "." not in domain or is_address(domain):
            raise ValueError(f"{shown(name)} is not a domain")
    except ValueError as error:
        place.tell(f"{error}: an entry without `mx` has a domain as its name")
