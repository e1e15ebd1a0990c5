"""Reading the values of one attrs class from mappings: which keys it has, what is missing, what is unknown.

What cannot be read is told at its place. The value still comes into being where only spare keys are wrong, so that the
checks between values see as much of the file as can be trusted; a file with any problem is refused in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from attrs import NOTHING
from cattrs import Converter

from dcrouter.config.accounts import Auth
from dcrouter.config.actions import Block, Forward, Handler, Redirect, Respond, Static
from dcrouter.config.admin import Config
from dcrouter.config.belonging import home_of
from dcrouter.config.checks.values import Within
from dcrouter.config.findings import Path, closest, meant, spell
from dcrouter.config.forms import Frequency, Port
from dcrouter.config.keys import Field, default_of, element_of, fields_of, is_variant, without_none
from dcrouter.config.mail import Email, MailPort
from dcrouter.config.match import PortRange
from dcrouter.config.nodes import Mapping as MappingNode
from dcrouter.config.nodes import Scalar
from dcrouter.config.nodes import Sequence as SequenceNode
from dcrouter.config.place import Invalid, Place
from dcrouter.config.queue import Queue
from dcrouter.config.rates import Rate
from dcrouter.config.routes import Route, RouteTls
from dcrouter.config.rules import Deliver, MailForward, Rule
from dcrouter.config.security import RequestRate
from dcrouter.config.units import port, shown

SHORT: Mapping[type, tuple[Any, Callable[[Any], Any]]] = {
    PortRange: (Port, lambda number: PortRange(start=number, end=number)),
    MailPort: (Port, lambda number: MailPort(port=number)),
    Rate: (Frequency, lambda rate: Rate(rate=rate)),
    RequestRate: (Frequency, lambda rate: RequestRate(rate=rate)),
}
"""Values that may be written as a bare scalar: the scalar's type, and what is made of it."""

_SPARE: Mapping[type, frozenset[str]] = {
    Config: frozenset(fields_of(Config)),
    Email: frozenset(fields_of(Email)),
    Route: frozenset(("timeouts", "security")),
    RouteTls: frozenset(("certificate",)),
    Forward: frozenset(("targets", "balance", "retries", "health", "source", "through", "select")),
    Redirect: frozenset(("to", "status")),
    Respond: frozenset(("status", "body", "headers")),
    Static: frozenset(("root", "index")),
    Block: frozenset(("status",)),
    Handler: frozenset(("factory",)),
    MailPort: frozenset(("max_connections",)),
    MailForward: frozenset(("targets", "balance", "health", "tls", "ca", "auth")),
    Deliver: frozenset(("maildir", "lmtp")),
    Rule: frozenset(("limits", "recipients_file", "verify")),
    Auth: frozenset(fields_of(Auth)),
    Queue: frozenset(fields_of(Queue)),
}
"""Keys that a value goes on without: no check between values looks at them, or those that do ask `Findings.touch`."""
_STAND_IN: Mapping[tuple[type, str], Any] = {
    (Redirect, "to"): "/",
    (Static, "root"): "/",
    (Handler, "factory"): "_:_",
    (Forward, "targets"): (),
    (Email, "hostname"): "localhost",
    (MailForward, "targets"): (),
}
"""What stands for a spare key that has no default, once it was told that it is missing or wrong."""
_WORTH_LISTING = 16


@attrs.define
class Reading:
    """What all classes of one document share.

    `unsaid`: what holds where the file says nothing, where that is not the class's own default. `heard`: called
    with the value of a key as soon as it is known. `places`: where each value of a class stands, by the value's id.
    """

    converter: Converter
    within: Mapping[type, Within]
    unsaid: dict[tuple[type, str], Any]
    heard: Mapping[tuple[type, str], Callable[[Any], None]]
    places: dict[int, Place]


class ClassReader:
    """Reads values of `cls`; called as a structure hook of cattrs."""

    def __init__(self, cls: type, reading: Reading) -> None:
        hook_for = reading.converter.get_structure_hook
        self.cls = cls
        self.reading = reading
        self.fields = fields_of(cls)
        self.singles = {field.key.single: field for field in self.fields.values() if field.key.single is not None}
        self.words = [*self.fields, *self.singles]
        self.spare = _SPARE.get(cls, frozenset())
        self.defaults = {word: default_of(field) for word, field in self.fields.items()}
        self.short = _short(*SHORT[cls], hook_for) if cls in SHORT else None
        self.hooks = {word: hook_for(field.type) for word, field in self.fields.items()}
        self.element_hooks = {
            word: hook_for(element_of(without_none(field.type)[0]))
            for word, field in self.fields.items()
            if field.key.single is not None or field.key.scalar
        }

    def __call__(self, place: Place, _: Any) -> Any:
        """The value at `place`, or Invalid."""
        if self.short is not None and isinstance(place.node, Scalar):
            read, made = self.short
            value = made(read(place, None))
        else:
            value = self._from_mapping(place)
        self.reading.places[id(value)] = place
        return value

    def _from_mapping(self, place: Place) -> Any:
        found, wrong = self._known(place)
        complete = not wrong or len(self.spare) == len(self.fields)
        values: dict[str, Any] = {}
        for word, field in self.fields.items():
            child = found.get(word)
            if child is None and field.key.single is not None:
                child = found.get(field.key.single)
            value = NOTHING
            if child is not None:
                try:
                    value = self._said(child, field)
                except Invalid:
                    complete = complete and word in self.spare
            if value is NOTHING:
                value = self._unsaid(place, field)
            if child is None and is_variant(field):
                place.tell("'type' is missing")
                complete = False
            if value is NOTHING and field.required:
                if child is None and not {word, field.key.single} & wrong and field.key.unless not in found:
                    place.tell(f"{shown(word)} is missing")
                value = _STAND_IN.get((self.cls, field.attribute), NOTHING)
                complete = complete and value is not NOTHING
            if value is not NOTHING:
                values[field.attribute] = value
                heard = self.reading.heard.get((self.cls, field.attribute))
                if heard is not None:
                    heard(value)
        if not complete:
            raise Invalid
        within = self.reading.within.get(self.cls)
        value = self.cls(**values)
        return value if within is None else within(value, place)

    def _known(self, place: Place) -> tuple[dict[str, Place], set[str]]:
        """The places of known keys; and of each unknown one, which is told, the word that was meant."""
        found: dict[str, Place] = {}
        wrong: set[str] = set()
        for word, child in place.entries(f"a mapping{_listed(self.words)}"):
            if word in self.fields or word in self.singles:
                found[word] = child
            else:
                home = home_of(child.path)
                child.tell(unknown(word, self.words, home))
                wrong.add(_meant_here(child, self.words, home))
        for single, field in self.singles.items():
            if single in found and field.word in found:
                found.pop(single).tell(f"says the same as {shown(field.word)}: keep one of them")
        return found, wrong

    def _said(self, child: Place, field: Field) -> Any:
        if child.step == field.key.single or (field.key.scalar and not isinstance(child.node, SequenceNode)):
            return (self.element_hooks[field.word](child, None),)
        if field.key.nonempty and isinstance(child.node, SequenceNode) and not child.node.items:
            child.fail(f"the list is empty: {field.key.nonempty}")
        if field.key.nonempty and isinstance(child.node, MappingNode) and not child.node.entries:
            child.fail(f"the mapping is empty: {field.key.nonempty}")
        child.base = self.reading.unsaid.get((self.cls, field.attribute), self.defaults[field.word])
        value = self.hooks[field.word](child, field.type)
        if field.key.entry is not None:
            _check_entries(child, value, field.key.entry)
        return value

    def _unsaid(self, place: Place, field: Field) -> Any:
        """What holds where the file says nothing, or nothing that can be read; NOTHING: the class's own default."""
        key = (self.cls, field.attribute)
        if key in self.reading.unsaid:
            return self.reading.unsaid[key]
        if isinstance(place.base, self.cls):
            return getattr(place.base, field.attribute)
        return NOTHING


def unknown(word: str, known: list[str], home: Path | None = None) -> str:
    """What is wrong with a key that does not exist. `home`: where it belongs."""
    if word == "<<":
        return "unknown key: YAML 1.2 has no merge keys"
    if home is not None:
        return f"unknown key (did you mean {spell(home)}?)"
    return f"unknown key{meant(word, known) or _listed(known)}"


def _meant_here(place: Place, known: list[str], home: Path | None) -> str:
    """The key beside the unknown one that was meant, or under which it belongs."""
    word, around = str(place.step), place.path[:-1]
    if home is None:
        return closest(word, known) or word
    return str(home[len(around)]) if home[: len(around)] == around else word


def _listed(known: list[str]) -> str:
    return f" (known here: {', '.join(known)})" if len(known) <= _WORTH_LISTING else ""


def _check_entries(place: Place, entries: Mapping[str, str], check: Callable[[str, str], None]) -> None:
    seen: dict[str, str] = {}
    for word, text in entries.items():
        where = place.at(word)
        try:
            check(word, text)
        except ValueError as error:
            where.tell(str(error))
        if word.lower() in seen:
            where.tell(f"says the same as {shown(seen[word.lower()])}")
        seen[word.lower()] = word


def _short(scalar: Any, made: Callable[[Any], Any], hook_for: Callable[[Any], Any]) -> tuple[Any, Any]:
    return (_port if scalar is Port else hook_for(scalar)), made


def _port(place: Place, _: Any) -> int:
    value = place.scalar("a port").value
    try:
        return port(value)
    except ValueError as error:
        first, dash, last = str(value).partition("-")
        hint = f" (a range is {{from: {first}, to: {last}}})" if dash and first.isdigit() and last.isdigit() else ""
        place.fail(f"{error}{hint}")
