"""From nodes to values, class by class, as the types of config/*.py say; every problem is told and reading goes on.

cattrs picks the hook for a type; the hooks here get a `Place` and give a value or raise Invalid. What cannot be read is
left out (of `routes`, `email.rules` and `email.ports`) or takes its default (in the whole file and in `email`), so that
the rest of the file is checked in the same run; the checks ask `Findings.touch` before they trust what is missing.

Nothing is read in the order of the file but in that of the classes: state_dir comes before the paths that start there,
`defaults` before the routes that they hold for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import attrs
from attrs import evolve
from cattrs import Converter

from dcrouter.config.admin import Config
from dcrouter.config.checks.files import Files
from dcrouter.config.checks.mail import MAIL
from dcrouter.config.checks.values import WITHIN
from dcrouter.config.classes import ClassReader, Reading
from dcrouter.config.findings import meant
from dcrouter.config.forms import Form, Secret, form_of
from dcrouter.config.keys import element_of, fields_of, is_mapping, variants_of, without_none, words_of
from dcrouter.config.mail import MailPort
from dcrouter.config.named import read_named
from dcrouter.config.nodes import Mapping as MappingNode
from dcrouter.config.nodes import Scalar
from dcrouter.config.place import Invalid, Place
from dcrouter.config.routes import Defaults, Route
from dcrouter.config.rules import Rule
from dcrouter.config.security import RouteSecurity
from dcrouter.config.units import shown

Read = Callable[[Place, Any], Any]

_LEAVE_OUT: tuple[type, ...] = (Route, Rule, MailPort)
_LARGEST_SECRET = 64 * 1024


class Reader:
    """Reads one document. `directory`: of the file. `places`: of every value of a class, by its id.
    `files`: what was seen of the files that it names.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.places: dict[int, Place] = {}
        self.files = Files()
        self._bases = {"file": directory, "state": directory / "state"}
        self._defaults = Defaults()
        self._converter = Converter()
        self._reading = Reading(
            converter=self._converter,
            within={**WITHIN, **MAIL, **self.files.within, Route: self._route},
            unsaid={(Config, "state_dir"): directory / "state"},
            heard={(Config, "state_dir"): self._set_state_dir, (Config, "defaults"): self._set_defaults},
            places=self.places,
        )
        for wanted, hook in (
            (attrs.has, lambda cls: ClassReader(cls, self._reading)),
            (lambda type_: bool(words_of(type_)), _words),
            (lambda type_: element_of(type_) is not None, self._list),
            (is_mapping, self._mapping),
            (lambda type_: bool(variants_of(type_)), self._variant),
            (_is_word_or_class, self._word_or_class),
            (lambda type_: without_none(type_)[1], self._optional),
            (lambda type_: form_of(type_) is not None, self._form),
        ):
            self._converter.register_structure_hook_factory(wanted, hook)
        self._converter.register_structure_hook(str, _text)
        self._converter.register_structure_hook(bool, _truth)
        self._converter.register_structure_hook(Secret, self._secret)

    def read(self, place: Place, type_: type[Any]) -> Any:
        """The value at `place`; Invalid where there is none, and its findings say why."""
        return self._converter.structure(place, type_)

    def place(self, value: object) -> Place:
        """Where a value of a class stands that came out of `read`."""
        return self.places[id(value)]

    # ------------------------------------------------------------ classes

    def _set_state_dir(self, state_dir: Path) -> None:
        self._bases["state"] = state_dir

    def _set_defaults(self, defaults: Defaults) -> None:
        self._defaults = defaults
        self._reading.unsaid[Route, "timeouts"] = defaults.timeouts
        # Counters of the defaults count all routes together: they are not a route's own.
        own = defaults.security
        self._reading.unsaid[Route, "security"] = RouteSecurity(allow=own.allow, block=own.block, min_rate=own.min_rate)

    def _route(self, route: Route, place: Place) -> Route:
        security = place.at("security")
        if security.step == "security" and security.says("block"):
            block = dict.fromkeys((*self._defaults.security.block, *route.security.block))
            route = evolve(route, security=evolve(route.security, block=tuple(block)))
        checked: Route = WITHIN[Route](route, place)
        return checked

    # ------------------------------------------------------------ everything else

    def _list(self, type_: Any) -> Read:
        element = element_of(type_)
        leaves_out = element in _LEAVE_OUT

        def read(place: Place, _: Any) -> Any:
            hook = self._converter.get_structure_hook(element)
            values, complete = [], True
            for item in place.items():
                try:
                    values.append(hook(item, element))
                except Invalid:
                    complete = False
            if not complete and not leaves_out:
                raise Invalid
            return tuple(values)

        return read

    def _mapping(self, type_: Any) -> Read:
        """Of text, or of what has a form; keys that are numbers are written as such."""
        named, wanted = get_args(type_)
        form = form_of(named)

        def read(place: Place, _: Any) -> dict[Any, Any]:
            values: dict[Any, Any] = {}
            complete = True
            hook = self._converter.get_structure_hook(wanted)
            for word, child in place.entries():
                try:
                    values[word if form is None else _key(child, word, form)] = hook(child, wanted)
                except Invalid:
                    complete = False
            if not complete:
                raise Invalid
            return values

        return read

    def _variant(self, type_: Any) -> Read:
        variants = variants_of(type_)

        def read(place: Place, _: Any) -> Any:
            node = place.node
            if not isinstance(node, MappingNode):
                place.unlike("a mapping with 'type'")
            if "type" not in node.entries:
                place.fail(f"'type' is missing: one of {', '.join(variants)}")
            word = _choose(place.at("type"), list(variants))
            return self._converter.structure(place, variants[word])

        return read

    def _word_or_class(self, type_: Any) -> Read:
        literal, cls = get_args(type_)

        def read(place: Place, _: Any) -> Any:
            if isinstance(place.node, MappingNode):
                return self._converter.structure(place, cls)
            return _choose(place, [*words_of(literal)], *fields_of(cls))

        return read

    def _optional(self, type_: Any) -> Read:
        inner, _ = without_none(type_)

        def read(place: Place, _: Any) -> Any:
            node = place.node
            if isinstance(node, Scalar) and node.value is None and not node.broken and _is_scalar(inner):
                return None
            return self._converter.structure(place, inner)

        return read

    def _form(self, type_: Any) -> Read:
        form = form_of(type_)
        assert form is not None
        return lambda place, _: self._formed(place, form)

    def _formed(self, place: Place, form: Form) -> Any:
        scalar = place.scalar(form.words.partition(":")[0].partition(";")[0])
        try:
            value = form.read(scalar.value if form.typed else scalar.text)
        except ValueError as error:
            place.fail(str(error))
        return self._bases[form.base] / value if form.base is not None and value is not None else value

    def _secret(self, place: Place, _: Any) -> Secret:
        if not isinstance(place.node, MappingNode):
            return Secret(place.scalar("a secret").text)
        if any(word != "file" for word in place.node.entries):  # not repeated: `{hunter2}` may be a password
            place.fail("neither a text nor {file: PATH}: a secret that begins with a brace stands in quotes")
        file = place.at("file")
        path = self.directory / file.scalar("a path").text if file is not place else place.fail("'file' is missing")
        data = read_named(path, _LARGEST_SECRET)
        if isinstance(data, str):
            file.fail(data)
        try:
            return Secret(data.decode().rstrip("\r\n"), path)
        except UnicodeDecodeError:
            file.fail(f"{path} is not UTF-8")


def _key(place: Place, word: str, form: Form) -> Any:
    try:
        return form.read(int(word) if form.typed and word.isdecimal() else word)
    except ValueError as error:
        place.fail(f"the key: {error}")


def _is_word_or_class(type_: Any) -> bool:
    options = get_args(type_)
    return len(options) == 2 and bool(words_of(options[0])) and attrs.has(options[1])


def _is_scalar(type_: Any) -> bool:
    return not attrs.has(type_) and element_of(type_) is None and not is_mapping(type_)


def _words(type_: Any) -> Read:
    values = {str(value): value for value in get_args(type_)}
    if "true" not in values:
        return lambda place, _: values[_choose(place, list(values))]

    def read(place: Place, _: Any) -> Any:
        # True and TRUE are the same boolean in YAML.
        if isinstance(place.node, Scalar) and isinstance(place.node.value, bool):
            return values["true" if place.node.value else "false"]
        return values[_choose(place, list(values))]

    return read


def _choose(place: Place, words: list[str], *keys: str) -> str:
    """One of `words`; `keys`: of the mapping that may stand there instead."""
    wanted = f"one of {', '.join(words)}" if len(words) > 1 else words[0]
    if keys:
        wanted += f" or {{{', '.join(keys)}}}"
    text = place.scalar(wanted).text
    if text not in words:
        place.fail(f"{shown(text)} is not {wanted}{meant(text, words)}")
    return text


def _text(place: Place, _: Any) -> str:
    return place.scalar("text").text


def _truth(place: Place, _: Any) -> bool:
    value = place.scalar("true or false").value
    if not isinstance(value, bool):
        place.fail(f"{shown(value)} is not true or false")
    return value
