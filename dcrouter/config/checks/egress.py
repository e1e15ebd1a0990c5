"""What must hold within a rule of `email.egress`, and between them and the rest of `email`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dcrouter.config.egress import EgressMatch, EgressRule
from dcrouter.config.findings import meant
from dcrouter.config.mail import Email
from dcrouter.config.place import Place
from dcrouter.config.zones import DEFAULT

if TYPE_CHECKING:
    from dcrouter.config.read import Reader


def _match(match: EgressMatch, place: Place) -> EgressMatch:
    if match == EgressMatch() and not place.findings.touch(place.path):
        place.tell("says nothing: leave it out for a rule of every connection")
    return match


def _rule(rule: EgressRule, place: Place) -> EgressRule:
    if place.says("through") and place.says("select"):
        place.at("select").tell("stands instead of 'through': keep one of them")
    elif not rule.through and rule.select is None and not place.findings.touch(place.path):
        place.tell("'through' or 'select' is missing")
    if rule.select is not None and place.says("balance"):
        place.at("balance").tell("is for `through`: the callable names the proxies in its order")
    if len(set(rule.through)) < len(rule.through):
        place.at("through").warn("names the same proxy twice")
    elif len(rule.through) == 1 and place.says("balance"):
        place.at("balance").warn("says nothing: there is one proxy")
    return rule


def check_egress(email: Email, reader: Reader) -> None:
    """Zones that are named, and rules that are never asked."""
    known = {DEFAULT, *email.zones}
    seen: EgressRule | None = None
    for rule in email.egress:
        where = reader.place(rule)
        for zone in rule.match.zone or ():
            if zone not in known:
                where.at("match", "zone").tell(f"there is no zone {zone!r}{meant(zone, known)}")
        if seen is not None and rule.enabled:
            where.warn("is never asked: a rule before it is for every connection")
        elif rule.enabled and rule.match == EgressMatch() and rule.select is None:
            seen = rule


EGRESS: Mapping[type, Callable[[Any, Place], Any]] = {EgressMatch: _match, EgressRule: _rule}
"""What must hold within a value of a class."""
