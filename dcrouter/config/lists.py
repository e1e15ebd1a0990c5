"""Lists in files of their own: accounts (`users_file`) and who exists (`recipients_file`).

They change while dcrouter runs, so who uses them reads them again; nothing of them is in the `Config`. Both functions
raise ConfigError with every problem of the file, as `file:line:column: ...`, and touch nothing but the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dcrouter.config.accounts import User
from dcrouter.config.document import compose, decoded
from dcrouter.config.findings import Findings
from dcrouter.config.named import read_named
from dcrouter.config.patterns import ANY, DETAIL, recipient
from dcrouter.config.place import Invalid, Place
from dcrouter.config.read import Reader
from dcrouter.config.units import shown
from dcrouter.errors import ConfigError
from dcrouter.wire.sasl import prepare_account

MOST_BYTES = 64 * 1024 * 1024
"""Some millions of addresses."""
MOST_PROBLEMS = 20
"""That are told of a list of recipients: one slip of a script is in every line."""


_COMMON = re.compile(r"[a-z0-9._+=-]{1,64}@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,63}")
"""A line of the plainest kind, told at a glance: lists have a million of them."""


def load_users(path: Path, environment: Mapping[str, str] | None = None) -> tuple[User, ...]:
    """The accounts of a YAML list like `email.auth.users`, `may_send_as` filled in; no two have the same name."""
    findings = Findings()
    root = compose(_text(path), os.environ if environment is None else environment, findings)
    users: tuple[User, ...] = ()
    if root is not None:
        place = Place.root(root, findings)
        with suppress(Invalid):
            users = Reader(path.absolute().parent).read(place, tuple[User, ...])
        check_twice(users, place)
    if findings.problems:
        raise ConfigError([problem.show(str(path)) for problem in sorted(findings.problems)])
    return users


def check_twice(users: tuple[User, ...], place: Place) -> None:
    """Tells names that are told twice; `place`: of the list. Case makes no difference."""
    first: dict[str, int] = {}
    for at, user in enumerate(users):
        before = first.setdefault(prepare_account(user.name), at)
        if before != at:
            place.at(at, "name").tell(f"{shown(user.name)} is also the name of [{before}]")


def load_recipients(path: Path) -> frozenset[str]:
    """Patterns as `match.recipients` has them, in the form that they are compared in.

    The file: an address, or `*@` and a domain, on each line; `#` at its beginning or behind a space begins a comment.
    """
    found: set[str] = set()
    problems: list[str] = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        try:
            pattern = existing(line)
            if pattern is not None:
                found.add(pattern)
        except ValueError as error:
            problems.append(f"{path}:{number}:{line.index(line.split()[0]) + 1}: {error}")
    if len(problems) > MOST_PROBLEMS:
        problems[MOST_PROBLEMS:] = [f"{path} has {len(problems) - MOST_PROBLEMS} more lines that are wrong"]
    if problems:
        raise ConfigError(problems)
    return frozenset(found)


def existing(line: str) -> str | None:
    """What one line of a list of recipients says, None where it says nothing; ValueError where it is wrong.

    Nothing that exists has any domain, so a file cannot open a relay.
    """
    text = line.rstrip()
    if len(text) < 128 and _COMMON.fullmatch(text):
        return text
    words = text.split()
    if not words or words[0].startswith("#"):
        return None
    if len(words) > 1 and not words[1].startswith("#"):
        raise ValueError(f"{shown(line.strip())} is more than one address")
    text = words[0]
    if text.startswith("re:"):
        raise ValueError(f"{shown(text)}: a list has no regular expressions: write addresses, or *@ and a domain")
    pattern = recipient(text)
    if DETAIL + "@" in pattern:
        raise ValueError(f"{shown(text)}: in a list whoever exists does so with any detail: leave out '+*'")
    if pattern.endswith("@" + ANY):
        raise ValueError(f"{shown(text)} would exist in every domain: name the domain")
    return pattern


def _text(path: Path) -> str:
    data = read_named(path, MOST_BYTES)
    if isinstance(data, str):
        raise ConfigError([data])
    return decoded(data, path)
