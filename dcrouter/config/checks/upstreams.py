"""What must hold within the targets of a route: how their health is found out, and how they are reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dcrouter.config.actions import Forward
from dcrouter.config.health import Health, Passive
from dcrouter.config.names import is_address
from dcrouter.config.place import Place
from dcrouter.config.routes import Route
from dcrouter.config.targets import Target, TargetMatch


def check_upstreams(route: Route, place: Place) -> None:
    """`place`: of the route."""
    if isinstance(route.action, Forward):
        _check_checks(route, route.action, place.at("action"))
        _warn(route.action, place.at("action"))
        _check_way(route.action, place.at("action"))


def targets_of(forward: Forward, place: Place) -> list[tuple[Target, Place]]:
    """Each with its place; `place`: of the action."""
    if place.says("target"):
        return [(target, place.at("target")) for target in forward.targets]
    return [(target, place.at("targets", at)) for at, target in enumerate(forward.targets)]


def _health(health: Health, place: Place) -> Health:
    if health.type is None and health.passive is None:
        place.fail("says nothing that could be looked at: 'type' or 'passive' is missing")
    for word in ("interval", "timeout", "rise", "fall", "path", "expect") if health.type is None else ():
        if place.says(word):
            place.at(word).tell("is for active checks: 'type' is missing")
    for word in ("path", "expect") if health.type not in (None, "http") else ():
        if place.says(word):
            place.at(word).tell(f"is for type: http, not for {health.type}")
    place.at("interval").must_last(health.interval, "there would be no time between two checks")
    place.at("timeout").must_last(health.timeout, "no check could be good")
    return health


def _passive(passive: Passive, place: Place) -> Passive:
    place.at("within").must_last(passive.within, "nothing fails in no time")
    place.at("eject").must_last(passive.eject, "nothing would be ejected")
    return passive


def _check_checks(route: Route, action: Forward, place: Place) -> None:
    """`preserve` stands for no port in particular where a check has no client."""
    if action.health is not None and not action.targets and action.select is not None:
        place.at("health").tell("there are no `targets` that it could look at")
    if action.health is None or action.health.type is None:
        return
    ports = {port for given in route.match.ports for port in (given.start, given.end)}
    for target, where in targets_of(action, place):
        if len(ports) > 1 and target.host is not None and target.port is None and where.says("port"):
            where.at("port").tell("a check would not know which port to ask: the route has several")


def _check_way(action: Forward, place: Place) -> None:
    """Unix sockets are on this host, and a connection from an address of one family leads to one of the same."""
    if action.source is None and action.through is None:
        return
    for target, where in targets_of(action, place):
        if target.unix is not None:
            word = "source" if action.through is None else "through"
            where.tell(f"a unix socket is connected to by its path: {word} has no meaning for it")
        elif action.through is None and _other_family(target.host, action):
            where.tell(f"cannot be reached from {action.source} (source): one is IPv4, the other IPv6")
    if action.through is not None and _other_family(action.through.host, action):
        place.at("through").tell(f"cannot be reached from {action.source} (source): one is IPv4, the other IPv6")
    if action.source is not None and (action.source.is_unspecified or action.source.is_multicast):
        place.at("source").tell(f"{action.source} is no address of one host")


def _warn(action: Forward, place: Place) -> None:
    """What is allowed and does nothing."""
    seen: set[tuple[object, ...]] = set()
    for target, where in targets_of(action, place):
        key = (target.host, target.port, target.unix, repr(target.match))
        if key in seen:
            where.warn("is listed twice: its share is its `weight`")
        seen.add(key)
        if action.balance == "failover" and target.weight != 1:
            where.at("weight").warn("failover takes no notice of it: the first target that can be reached is taken")
    if action.targets and all(target.backup for target in action.targets):
        place.warn("all of its targets are backups, and there is nobody that they stand in for")


def _other_family(host: str | None, action: Forward) -> bool:
    if host is None or action.source is None or not is_address(host):
        return False
    return (":" in host) != (action.source.version == 6)


def _match(match: TargetMatch, place: Place) -> TargetMatch:
    if match == TargetMatch():
        place.tell("says nothing: leave it out for a target that is for all")
    return match


UPSTREAMS: Mapping[type, Callable[[Any, Place], Any]] = {
    Health: _health,
    Passive: _passive,
    TargetMatch: _match,
}
"""What must hold within a value of a class, whatever stands around it."""
