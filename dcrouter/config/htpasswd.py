"""Users of `basic_auth.users_file`: a line `name:hash` each, as `htpasswd -B` and `dcrouter passwd` make them.

bcrypt and argon2id are read; older kinds, which are broken by trying in hours, are an error. No hash is ever shown.
RFC 7617 section 2 (a name has no colon).
"""

from __future__ import annotations

import re
from pathlib import Path

from dcrouter.config.named import read_named
from dcrouter.config.units import shown
from dcrouter.errors import ConfigError

LARGEST = 1024 * 1024
"""Octets of the file: more than ten thousand users, read in some 10 ms."""
MOST_PROBLEMS = 20
MOST_ROUNDS = 15
"""Cost of bcrypt: 2 s of a processor for each try."""
MOST_MEMORY = 256 * 1024
"""KiB that one try of argon2id may take."""
MOST_PASSES = 20

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_ARGON2ID = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,8}),t=(\d{1,4}),p=(\d{1,3})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,172}"
)
_OLDER = (("$apr1$", "MD5"), ("$1$", "MD5"), ("{SHA}", "SHA-1"), ("$5$", "SHA-256"), ("$6$", "SHA-512"))


def read_users(path: Path) -> dict[str, str]:
    """name -> hash; ConfigError with every problem of the file, `file:line:column: ...` where it has a place."""
    data = read_named(path, LARGEST)
    if isinstance(data, str):
        raise ConfigError([data])
    return users_of(data, str(path))


def users_of(data: bytes, file: str) -> dict[str, str]:
    """name -> hash, of the file's content."""
    users: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            name, hashed = _user(text)
            if name in users:
                raise ValueError(f"{shown(name)} is here twice")
            users[name] = hashed
        except ValueError as error:
            problems.append(f"{file}:{number}:{len(line) - len(line.lstrip()) + 1}: {error}")
    if len(problems) > MOST_PROBLEMS:
        problems[MOST_PROBLEMS:] = [f"{file} has {len(problems) - MOST_PROBLEMS} more lines that are wrong"]
    if problems:
        raise ConfigError(problems)
    return users


def _user(text: str) -> tuple[str, str]:
    name, colon, hashed = text.partition(":")
    if not colon:
        raise ValueError("not a line such as name:hash")
    if not name or not name.isprintable() or "\ufffd" in name:
        raise ValueError("not the name of a user")
    bcrypt = _BCRYPT.fullmatch(hashed)
    if bcrypt is not None:
        if not 4 <= int(bcrypt[1]) <= MOST_ROUNDS:
            raise ValueError(f"{shown(name)} has a bcrypt hash of cost {bcrypt[1]}: from 4 to {MOST_ROUNDS} are taken")
        return name, hashed
    argon2 = _ARGON2ID.fullmatch(hashed)
    if argon2 is not None:
        memory, passes, lanes = (int(one) for one in argon2.groups())
        if memory > MOST_MEMORY or not 1 <= passes <= MOST_PASSES or not 1 <= lanes <= 16 or memory < 8 * lanes:
            raise ValueError(f"{shown(name)} has an argon2id hash of m={memory},t={passes},p={lanes}: that is too much")
        return name, hashed
    for beginning, kind in _OLDER:
        if hashed.startswith(beginning):
            raise ValueError(f"{shown(name)} has a hash of {kind}, which is too weak: make one with `htpasswd -B`")
    raise ValueError(f"{shown(name)} has no bcrypt or argon2id hash: make one with `htpasswd -B`")
