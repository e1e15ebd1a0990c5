"""`check --as-user`: whether the user that dcrouter becomes can read and write what the configuration names.

A process of its own becomes the user and tries, so the answer is the kernel's and not a guess from permission bits
(access lists, groups and every folder on the way count).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import frozen

from dcrouter.config.admin import Config
from dcrouter.config.forms import ReadPath, Secret
from dcrouter.config.keys import fields_of, without_none
from dcrouter.control.privileges import Account, drop
from dcrouter.errors import StartError, reason_of

Need = Literal["run", "read", "enter", "connect to", "append", "write into"]

_NEEDS: dict[str, Need] = {"root": "enter", "unix": "connect to"}
"""What is done with the path of a key; all others are read."""


@frozen(kw_only=True)
class Wish:
    """`key`: the configuration's word for it."""

    key: str
    path: Path
    need: Need


def wishes(config: Config, source: Path | None = None) -> Iterator[Wish]:
    """Every file and directory that the running service opens, and Python itself, which its children are.

    `source`: the configuration, which is read again on reload.
    """
    yield Wish(key="python", path=Path(sys.executable), need="run")
    if source is not None:
        yield Wish(key="configuration", path=source.absolute(), need="read")
    yield Wish(key="state_dir", path=config.state_dir, need="write into")
    yield Wish(key="admin.socket", path=config.admin.socket.parent, need="write into")
    if config.log.file is not None:
        yield Wish(key="log.file", path=config.log.file, need="append")
    if config.access_log is not None:
        yield Wish(key="access_log.file", path=config.access_log.file, need="append")
    if config.certificates.export is not None:
        yield Wish(key="certificates.export.dir", path=config.certificates.export.dir, need="write into")
    yield from _named(config, "")


def _named(value: Any, key: str) -> Iterator[Wish]:
    """The files that a value of the configuration names, those of what is not enabled apart."""
    if isinstance(value, Secret):
        if value.file is not None:
            yield Wish(key=f"{key}.file", path=value.file, need="read")
    elif isinstance(value, tuple):
        for number, one in enumerate(value):
            yield from _named(one, f"{key}[{number}]")
    elif isinstance(value, dict):
        for word, one in value.items():
            yield from _named(one, f"{key}.{word}")
    elif attrs.has(cls := type(value)) and getattr(value, "enabled", True):
        for field in fields_of(cls).values():
            inner, where = getattr(value, field.attribute), f"{key}.{field.word}".removeprefix(".")
            if without_none(field.type)[0] != ReadPath:
                yield from _named(inner, where)
            elif inner is not None and where != "state_dir":
                yield Wish(key=where, path=inner, need=_NEEDS.get(field.word, "read"))


def problems_as(account: Account | None, config: Config, source: Path | None = None) -> list[str]:
    """One line for each wish that `account` (None: this user) is not granted; StartError where it cannot become it."""
    if account is None or account.uid == os.geteuid():
        return list(_problems(config, source, handed_over=False))
    if os.geteuid() != 0:
        raise StartError(f"check --as-user must be run as root to try what user {account.name} can do")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            drop(account)
            os.write(write, json.dumps(list(_problems(config, source, handed_over=True))).encode())
            status = 0
        except StartError as error:
            os.write(2, f"dcrouter: {error}\n".encode())
        finally:
            os._exit(status)
    os.close(write)
    with open(read, "rb") as pipe:
        answer = pipe.read()
    if os.waitpid(child, 0)[1] != 0:
        raise StartError(f"cannot try what user {account.name} can do")
    problems: list[str] = json.loads(answer)
    return problems


def _problems(config: Config, source: Path | None, *, handed_over: bool) -> Iterator[str]:
    # A start as root gives the user a state directory that is not the user's yet: then only the way to it counts.
    handed_over = handed_over and not _is_mine(config.state_dir)
    for wish in dict.fromkeys(wishes(config, source)):
        if handed_over and wish.path.is_relative_to(config.state_dir):
            reachable = wish.key != "state_dir" or _is_reachable(config.state_dir)
            cause = None if reachable else "a folder on the way to it is closed to this user"
        else:
            cause = _denied(wish)
        if cause is not None:
            yield f"{wish.key}: cannot {wish.need} {wish.path}: {cause}"


def _denied(wish: Wish) -> str | None:
    if wish.need == "run":
        return None if os.access(wish.path, os.X_OK, effective_ids=True) else "permission denied"
    if wish.need == "read":
        return _opened(wish.path, os.O_RDONLY)
    if wish.need in ("enter", "connect to"):
        # A socket may come later; a folder of pages that is not there is told by every request.
        mode = os.X_OK if wish.need == "enter" else os.W_OK
        return None if not _exists(wish.path) or os.access(wish.path, mode, effective_ids=True) else "permission denied"
    if wish.need == "append" and _exists(wish.path):
        # Not opened for writing: a check changes nothing, and a pipe would wait.
        return None if os.access(wish.path, os.W_OK, effective_ids=True) else "permission denied"
    folder = wish.path if wish.need == "write into" else wish.path.parent
    # What is missing is made at the start, by whoever may write into the nearest folder that is there.
    while not _exists(folder) and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return f"{folder} is not writable"
    return None


def _is_mine(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _is_reachable(path: Path) -> bool:
    there = [folder for folder in path.parents if _exists(folder)]
    return all(os.access(folder, os.X_OK, effective_ids=True) for folder in there)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return True


def _opened(path: Path, flags: int) -> str | None:
    try:
        os.close(os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        return reason_of(error).lower()
    return None
