"""docs/configuration.md, made from the classes of the configuration: every key, its values, its default, its meaning.

`python -m dcrouter.config.reference` prints it; the tests fail while the file in docs/ says something else.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, get_args

import attrs

from dcrouter.config.admin import Config
from dcrouter.config.classes import SHORT
from dcrouter.config.forms import form_of
from dcrouter.config.keys import (
    Field,
    element_of,
    fields_of,
    is_mapping,
    is_variant,
    variants_of,
    without_none,
    words_of,
)
from dcrouter.config.written import written_default

_HEAD = """# routes.yaml

<!-- Made by `python -m dcrouter.config.reference`: change dcrouter/config/, not this file. -->

Every key of the configuration. `dcrouter check` tells everything that is wrong with a file, with line and column, and
`dcrouter schema` prints a JSON Schema with which an editor tells much of it while you type.

- An unknown key is an error. So are a key said twice, a YAML tag, and an empty list under `match`.
- YAML 1.2: only `true` and `false` are booleans; `no`, `22:22` and `2026-12-01` are text.
- `${NAME}` and `${NAME:-default}` stand for environment variables, in any value; `$${` is a literal `${`. Inside
  `{...}` and `[...]` they need quotes: `{host: app, port: "${PORT}"}`.
- Durations are written `250ms` `5s` `10m` `4h` `5d`, sizes `16KB` `50MB` (1024-based).
- Relative paths that dcrouter reads, and `state_dir`, start at the directory of this file; those that it writes start
  at `state_dir`.

A connection finds its route in this order: higher `priority`; then the more specific name (an exact one, then the
longest wildcard, `*.` before `**.`, then regular expressions, then routes without `domains`); then the longest path;
then more conditions (`listen`, `alpn`, `tls_versions`, `client_ips`, `methods`, each header and `time` count one each);
then the order in the file.
"""


class _Reference:
    """The sections found so far, in the order in which they will stand."""

    def __init__(self) -> None:
        self.titles: dict[type, str] = {}
        self.sections: list[str] = []
        self.waiting: list[tuple[type, str]] = []

    def write(self) -> str:
        """The whole page."""
        self.want(Config, "The whole file")
        while self.waiting:
            cls, title = self.waiting.pop(0)
            later, self.waiting = self.waiting, []
            self.sections.append(self.section(cls, title))
            # What a section leads to stands right behind it.
            self.waiting += later
        return _HEAD + "\n" + "\n".join(self.sections)

    def want(self, cls: type, title: str) -> str:
        """The title of the section on `cls`, which will be written."""
        if cls not in self.titles:
            self.titles[cls] = title
            self.waiting.append((cls, title))
        return self.titles[cls]

    def section(self, cls: type, title: str) -> str:
        path = "" if cls is Config else title.split("`")[1] + "."
        lines = [f"## {title}", "", _summary(cls), "", "| Key | Value | Default | Meaning |", "|---|---|---|---|"]
        for word, field in fields_of(cls).items():
            value = self.value(field.type, path + word)
            if field.key.scalar:
                value += ", or only one"
            default = "required" if is_variant(field) else _default(field)
            cells = (f"`{word}`", value, default, field.key.text)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return "\n".join(lines) + "\n"

    def value(self, type_: Any, path: str) -> str:
        """What a key takes."""
        inner, _ = without_none(type_)
        form = form_of(inner)
        if form is not None:
            return form.words
        if words_of(inner):
            return " ".join(f"`{word}`" for word in words_of(inner))
        element = element_of(inner)
        if element is not None:
            return f"list: {self.value(element, path + '[]')}"
        variants = variants_of(inner)
        if variants:
            links = (_link(self.want(cls, f"`{path}` with `type: {word}`")) for word, cls in variants.items())
            return "one of " + ", ".join(links)
        if attrs.has(inner):
            short = self.value(SHORT[inner][0], path) + ", or " if inner in SHORT else ""
            return short + _link(self.want(inner, f"`{path}`"))
        if inner is bool:
            return "`true` `false`"
        if is_mapping(inner):
            named, wanted = get_args(inner)
            if wanted is str:
                return "a mapping of text"
            if named is str:
                return f"a mapping of names: {self.value(wanted, path + '.NAME')}"
            return f"a mapping of {self.value(named, path)} to {self.value(wanted, path)}"
        if get_args(inner):
            return " or ".join(self.value(one, path) for one in get_args(inner))
        return "text"


def reference() -> str:
    """The page, in Markdown."""
    return _Reference().write()


def _summary(cls: type) -> str:
    return " ".join((cls.__doc__ or "").strip().partition("\n\n")[0].split())


def _default(field: Field) -> str:
    if field.key.default is not None:
        return field.key.default
    if field.required:
        return "required" + (f" without `{field.key.unless}`" if field.key.unless is not None else "")
    default = written_default(field)
    if default is None:
        return ""
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def _link(title: str) -> str:
    """To a section, by the anchor that Markdown renderers make of its title."""
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    return f"[{title}](#{anchor})"


if __name__ == "__main__":
    sys.stdout.write(reference())
