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
from typing import Literal

from attrs import frozen

from dcrouter.config.admin import Config
from dcrouter.config.mail import Email
from dcrouter.config.rules import MailForward
from dcrouter.config.tls import CertificateFiles
from dcrouter.control.privileges import Account, drop
from dcrouter.errors import StartError

Need = Literal["run", "read", "append", "write into"]


@frozen(kw_only=True)
class Wish:
    """`key`: the configuration's word for it."""

    key: str
    path: Path
    need: Need


def wishes(config: Config) -> Iterator[Wish]:
    """Every file and directory that the running service opens, and Python itself, which its children are."""
    yield Wish(key="python", path=Path(sys.executable), need="run")
    yield Wish(key="state_dir", path=config.state_dir, need="write into")
    yield Wish(key="admin.socket", path=config.admin.socket.parent, need="write into")
    if config.log.file is not None:
        yield Wish(key="log.file", path=config.log.file, need="append")
    if config.access_log is not None:
        yield Wish(key="access_log.file", path=config.access_log.file, need="append")
    for number, files in enumerate(config.certificates.files):
        yield from _pair(f"certificates.files[{number}]", files)
    if config.certificates.export is not None:
        yield Wish(key="certificates.export.dir", path=config.certificates.export.dir, need="write into")
    for number, route in enumerate(config.routes):
        if route.tls is not None:
            if isinstance(route.tls.certificate, CertificateFiles):
                yield from _pair(f"routes[{number}].tls.certificate", route.tls.certificate)
            if route.tls.upstream.ca is not None:
                yield Wish(key=f"routes[{number}].tls.upstream.ca", path=route.tls.upstream.ca, need="read")
    if config.email is not None:
        yield from _mail(config.email)


def _mail(email: Email) -> Iterator[Wish]:
    if isinstance(email.certificate, CertificateFiles):
        yield from _pair("email.certificate", email.certificate)
    if email.auth.users_file is not None:
        yield Wish(key="email.auth.users_file", path=email.auth.users_file, need="read")
    if email.aliases_file is not None:
        yield Wish(key="email.aliases_file", path=email.aliases_file, need="read")
    for number, rule in enumerate(email.rules):
        if rule.recipients_file is not None:
            yield Wish(key=f"email.rules[{number}].recipients_file", path=rule.recipients_file, need="read")
        if isinstance(rule.action, MailForward) and rule.action.ca is not None:
            yield Wish(key=f"email.rules[{number}].action.ca", path=rule.action.ca, need="read")


def problems_as(account: Account | None, config: Config) -> list[str]:
    """One line for each wish that `account` (None: this user) is not granted; StartError where it cannot become it."""
    if account is None or account.uid == os.geteuid():
        return list(_problems(config, handed_over=False))
    if os.geteuid() != 0:
        raise StartError(f"check --as-user must be run as root to try what user {account.name} can do")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            drop(account)
            os.write(write, json.dumps(list(_problems(config, handed_over=True))).encode())
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


def _problems(config: Config, *, handed_over: bool) -> Iterator[str]:
    # A start as root gives the user a state directory that is not the user's yet: then only the way to it counts.
    handed_over = handed_over and not _is_mine(config.state_dir)
    for wish in dict.fromkeys(wishes(config)):
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
        return (error.strerror or str(error)).lower()
    return None


def _pair(key: str, files: CertificateFiles) -> Iterator[Wish]:
    yield Wish(key=f"{key}.cert", path=files.cert, need="read")
    yield Wish(key=f"{key}.key", path=files.key, need="read")
