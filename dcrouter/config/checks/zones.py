"""Sending to the world: zones that nobody knows, matches that are never asked, names of destinations."""

from __future__ import annotations

import socket
from itertools import pairwise

from dcrouter.config.findings import meant
from dcrouter.config.mail import Email
from dcrouter.config.match import Address
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
        _check_pools_of(email, place.at("zones"))
    if not findings.touch(("email", "pools")):
        _check_pools(email, place.at("pools"))
    if not findings.touch(("email", "on_reply")):
        _check_replies(email, place.at("on_reply"))
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
        place.at(name, "connection_time").must_last(zone.connection_time, "no connection would carry anything")


def _check_pools_of(email: Email, place: Place) -> None:
    for name, zone in email.zones.items():
        if zone.pool is not None and zone.pool not in email.pools:
            place.at(name, "pool").tell(f"there is no pool {shown(zone.pool)}{meant(zone.pool, list(email.pools))}")


def _check_pools(email: Email, place: Place) -> None:
    used = {zone.pool for zone in email.zones.values()}
    for name, pool in email.pools.items():
        where = place.at(name)
        if not pool:
            where.tell("has no source: nothing could leave")
        elif name not in used:
            where.warn("is not used by any zone")
        seen: dict[object, int] = {}
        for at, source in enumerate(pool):
            if source.address in seen:
                where.at(at, "address").tell(f"is also the address of [{seen[source.address]}]")
            seen.setdefault(source.address, at)
            if not is_ours(source.address):
                where.at(at, "address").warn(f"{source.address} is not an address of this host")
            warmup = source.warmup
            if warmup is not None and any(a > b for a, b in pairwise(warmup.daily)):
                where.at(at, "warmup", "daily").warn("has less on a later day than before")
        if pool and all(source.warmup is not None for source in pool):
            where.warn("has no warm source: what is too much for a warming one leaves from it all the same")


def _check_replies(email: Email, place: Place) -> None:
    for at, one in enumerate(email.on_reply):
        where = place.at(at)
        if one.action == "slow_down" and one.to is None:
            where.tell("'to' is missing: the rate to slow down to")
        elif one.action != "slow_down" and one.to is not None:
            where.at("to").tell(f"{one.action} has no rate: leave it out")
        if one.for_ is not None:
            where.at("for").must_last(one.for_, "is no time at all")
        if one.action == "rotate_source" and not any(len(pool) > 1 for pool in email.pools.values()):
            where.at("action").warn("has nothing to turn to: no pool has two sources")


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


def is_ours(address: Address) -> bool:
    """Whether something can be bound to an address on this host, now."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
