"""A YAML file as nodes that know their line and column: the language without its traps, within bounds.

1. `read_text` reads the file: UTF-8, at most MOST_BYTES, no control characters.
2. `compose` makes nodes from libyaml's events (its pure Python twin's where that is missing). Variables are expanded
   and scalars typed here (config/scalars.py). Tags, keys said twice and variables that are not set are problems, all
   of them collected; broken syntax, nesting beyond MOST_DEPTH and aliases that stand for more than MOST_ALIASED nodes
   end it.
3. A value's place is its key's, as in every error of the configuration; an element's is its own.

Merge keys (`<<`) do not exist in YAML 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingOf
from pathlib import Path as FilePath
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from dcrouter.config import scalars
from dcrouter.config.findings import Finding, Findings, Step
from dcrouter.config.nodes import Mapping, Node, Scalar, Sequence
from dcrouter.errors import ConfigError, reason_of

MOST_BYTES = 64 * 1024 * 1024
"""About 30 times a file of 10 000 routes."""
MOST_DEPTH = 32
"""The contract nests 9 deep."""
MOST_ALIASED = 1_000_000
"""Nodes that all aliases together may stand for: 10 000 routes may share a long block, a bomb may not go off."""

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_HINTS = (
    ("found character that cannot start any token", "\t", "indent with blanks, not with tabs"),
    ("found character that cannot start any token", "@`%", "text that begins with this character must be in quotes"),
    ("did not find expected alphabetic or numeric", "", "text that begins with * or & must be in quotes"),
    (
        "did not find expected node content",
        ":",
        "text that begins with ':', as '::1', must be in quotes inside [] and {}",
    ),
    (
        "did not find expected ',' or",
        "",
        "a bracket left open, or text with one or a comma in it that is not in quotes",
    ),
    ("mapping values are not allowed", "", "a wrong indent, or text with ': ' in it that is not in quotes"),
    ("did not find expected '-' indicator", "", "a wrong indent"),
    ("did not find expected key", "", "a wrong indent, or text behind the closing quote or bracket of a value"),
    ("could not find expected ':'", "", "a key without ': ' behind it"),
    ("found unexpected end of stream", "", "a quote left open"),
)
"""What the parser says, the characters of which it stands at one, and what to do."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_text(file: FilePath) -> str:
    """The text of `file`; ConfigError, on one line, where it is not one."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{file}: {_reason(error)}"]) from error
    if len(data) > MOST_BYTES:
        raise ConfigError([f"{file}: is larger than {MOST_BYTES >> 20} MB"])
    return decoded(data, file)


def decoded(data: bytes, file: FilePath) -> str:
    """The text of what was read from `file`; ConfigError where it is not one."""
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        where = _position(before, len(before))
        raise ConfigError([f"{file}:{where}: byte 0x{data[error.start]:02x} is not UTF-8"]) from error
    found = _FORBIDDEN.search(text)
    if found is not None:
        where = _position(text, found.start())
        raise ConfigError([f"{file}:{where}: character U+{ord(found.group()):04X} is not allowed"])
    return text


def compose(text: str, environment: MappingOf[str, str], findings: Findings) -> Node | None:
    """The document's root; None, and a problem among `findings`, where there is none to go on with."""
    composer = _Composer(text, environment, findings)
    try:
        return composer.document()
    except _Ended:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"not YAML: {error.problem or error.context or 'cannot be parsed'}"
        if error.problem and error.context and error.context_mark is not None:
            problem += f" ({error.context} from line {error.context_mark.line + 1} on)"
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        problem += _hint(error.problem or "", text.splitlines()[line - 1 :], column)
        findings.problems.append(Finding(line, column, (), " ".join(problem.split())))
    except yaml.YAMLError as error:
        findings.problems.append(Finding(1, 1, (), "not YAML: " + " ".join(str(error).split())))
    finally:
        composer.loader.dispose()
    return None


class _Ended(Exception):
    """The document cannot be read any further; the problem was told."""


class _Composer:
    """One document on its way from events to nodes. `path` is where it is, for problems."""

    def __init__(self, text: str, environment: MappingOf[str, str], findings: Findings) -> None:
        self.loader = _LOADER(text)
        self.environment = environment
        self.findings = findings
        self.path: list[Step] = []
        self.anchors: dict[str, Node | None] = {}
        self.aliased = 0

    def document(self) -> Node | None:
        """The only document of the stream."""
        next_event = self.loader.get_event
        next_event()
        event = next_event()
        if isinstance(event, StreamEndEvent):
            self.findings.problems.append(Finding(1, 1, (), "the file is empty"))
            return None
        event = next_event()
        root = self.node(event, event.start_mark)
        next_event()
        event = next_event()
        if isinstance(event, DocumentStartEvent):
            self.problem(event.start_mark, "a second document begins here: there must be only one")
        return root

    def problem(self, mark: Any, text: str, *more: Step) -> None:
        self.findings.problems.append(Finding(mark.line + 1, mark.column + 1, (*self.path, *more), text))

    def node(self, event: Any, mark: Any) -> Node:
        """The node that begins with `event`; `mark`: where problems with it are."""
        if isinstance(event, AliasEvent):
            return self.alias(event, mark)
        if event.tag is not None:
            # Never shown, nor is the name of an alias: it may be a password.
            self.problem(mark, "YAML tags are not allowed here: text that begins with ! needs quotes")
        if isinstance(event, ScalarEvent):
            node: Node = self.scalar(event, mark)
        else:
            if len(self.path) >= MOST_DEPTH:
                self.problem(mark, f"nested deeper than {MOST_DEPTH} levels")
                raise _Ended
            if event.anchor is not None:
                self.anchors[event.anchor] = None
            node = self.mapping(mark) if isinstance(event, MappingStartEvent) else self.sequence(mark)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any, mark: Any) -> Node:
        name = event.anchor
        node = self.anchors.get(name)
        if node is None:
            inside = "the alias stands inside what it stands for"
            unknown = "an alias without an anchor before it: text that begins with * needs quotes"
            self.problem(mark, inside if name in self.anchors else unknown)
            return Scalar(mark.line + 1, mark.column + 1, "", None, broken=True)
        self.aliased += node.size
        if self.aliased > MOST_ALIASED:
            self.problem(mark, f"aliases stand for more than {MOST_ALIASED} values")
            raise _Ended
        return node

    def scalar(self, event: Any, mark: Any) -> Scalar:
        text = event.value
        plain = event.implicit[0]
        broken = False
        if "${" in text:
            try:
                expanded = scalars.expand(text, self.environment)
            except ValueError as error:
                self.problem(mark, str(error))
                broken = True
            else:
                # Inside {} and [] a reference can only be written in quotes, so they say nothing about its type.
                plain = plain or (bool(expanded) and expanded != text and "$${" not in text)
                text = expanded
        value = scalars.resolve(text) if plain else text
        return Scalar(mark.line + 1, mark.column + 1, text, value, broken=broken)

    def sequence(self, mark: Any) -> Sequence:
        node = Sequence(mark.line + 1, mark.column + 1)
        next_event, path, items = self.loader.get_event, self.path, node.items
        while not isinstance(event := next_event(), SequenceEndEvent):
            path.append(len(items))
            item = self.node(event, event.start_mark)
            path.pop()
            items.append(item)
            node.size += item.size
        return node

    def mapping(self, mark: Any) -> Mapping:
        node = Mapping(mark.line + 1, mark.column + 1)
        next_event, path, entries = self.loader.get_event, self.path, node.entries
        while not isinstance(event := next_event(), MappingEndEvent):
            key_mark = event.start_mark
            key = self.node(event, key_mark)
            word = key.text if isinstance(key, Scalar) else "?"
            path.append(word)
            value = self.node(next_event(), key_mark)
            if not isinstance(key, Scalar):
                self.problem(key_mark, "a key must be text")
            elif word in entries:
                self.problem(key_mark, f"said twice (first on line {entries[word][0].line})")
            elif not key.broken:
                # An alias as a key is said here, whatever line its anchor has.
                here = Scalar(key_mark.line + 1, key_mark.column + 1, word, key.value)
                entries[word] = (here, value)
                node.size += 1 + value.size
            path.pop()
        return node


def _hint(problem: str, lines: list[str], column: int) -> str:
    """What to do about it; `lines`: from its own on."""
    here = lines[0][column - 1 : column] if lines else ""
    return next(
        (f": {hint}" for says, at, hint in _HINTS if problem.startswith(says) and (not at or (here and here in at))), ""
    )


def _position(text: str, at: int) -> str:
    """`line:column` of a character."""
    return f"{text.count(chr(10), 0, at) + 1}:{at - (text.rfind(chr(10), 0, at) + 1) + 1}"


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a directory, not a file"
    return f"cannot be read: {reason_of(error).lower()}"
