"""The accounts that may log in: those of the configuration and those of `users_file`, as one table.

1. `UsersFile.look` reads the file again when it has changed, in a thread, and looks once per LOOK_AGAIN seconds.
2. A file that cannot be read or has a problem leaves the accounts as they were; the log says so, once per change.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcrouter.config.accounts import Auth
from dcrouter.config.accounts import User as ConfiguredUser
from dcrouter.config.lists import load_users
from dcrouter.config.patterns import mail_address
from dcrouter.errors import ConfigError
from dcrouter.mail.server.claims import IAccount
from dcrouter.mail.server.passwords import impostor
from dcrouter.match.recipients import RecipientPatterns
from dcrouter.wire.sasl import prepare_account
from dcrouter.wire.scram import ITERATIONS, Verifier

LOOK_AGAIN = 1.0
"""Seconds within which `users_file` is looked at once."""

InThread = Callable[..., Deferred[Any]]
_State = tuple[int, int, int, int] | str
"""What tells one state of the file from another, or why it cannot be looked at."""


@implementer(IAccount)
@frozen(kw_only=True, eq=False)
class User:
    """One account. `name`: as it was written in the configuration, or as another source knows it; then it has no hash.

    `scram`: None where it cannot log in by SCRAM.
    """

    name: str
    senders: RecipientPatterns
    password_hash: str = field(default="", repr=False)
    scram: Verifier | None = None

    def may_send_as(self, address: str) -> bool:
        return self.senders.matches(address)


class Users:
    """A table of accounts by name; names are compared without case.

    `scram`: whether all of them can log in by it; `iterations`: of most of their verifiers.
    """

    def __init__(self, users: Iterable[ConfiguredUser]) -> None:
        self._by_name: dict[str, User] = {}
        for user in users:
            # The file may have been given a name that the configuration has: that one, which comes first, counts.
            self._by_name.setdefault(
                prepare_account(user.name),
                User(
                    name=user.name,
                    password_hash=user.password_hash,
                    senders=RecipientPatterns(user.may_send_as or (user.name,)),
                    scram=Verifier.parse(user.scram) if user.scram is not None else None,
                ),
            )
        self._salt = os.urandom(16)
        self._hashes = [user.password_hash for user in self._by_name.values()]
        rounds = Counter(user.scram.iterations for user in self._by_name.values() if user.scram is not None)
        self.scram = bool(rounds) and rounds.total() == len(self._by_name)
        self.iterations = rounds.most_common(1)[0][0] if rounds else ITERATIONS

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, name: str) -> User | None:
        return self._by_name.get(prepare_account(name))

    def known_elsewhere(self, name: str) -> User:
        """The account of a name that another source vouches for: what it may send as is told here, where it is, and
        else it is its own name, where that is an address (never a pattern: it is what somebody else wrote).
        """
        own = self.find(name)
        if own is not None:
            return own
        try:
            address = mail_address(name)
        except ValueError:
            address = ""
        senders = (address,) if address and "*" not in address and not address.startswith("re:") else ()
        return User(name=name, senders=RecipientPatterns(senders))

    def impostor(self, name: str) -> str:
        """A hash for a name that nobody has, as slow as that of some account: always the same one's, for that name."""
        digest = hashlib.blake2b(prepare_account(name).encode("utf-8", "replace"), key=self._salt, digest_size=8)
        return impostor(self._hashes[int.from_bytes(digest.digest(), "big") % len(self._hashes)])


class UsersFile:
    """All accounts of `auth`, as `users`. `in_thread` runs a call elsewhere; `clock` gives seconds."""

    _log = Logger()

    def __init__(self, auth: Auth, in_thread: InThread, clock: Callable[[], float]) -> None:
        self.users = Users(auth.users)
        self._fixed = auth.users
        self._path = auth.users_file
        self._in_thread = in_thread
        self._clock = clock
        self._state: _State | None = None
        self._looked = float("-inf")
        self._looking: list[Deferred[None]] | None = None

    def successor(self, auth: Auth) -> UsersFile:
        """For another `auth`: those who could log in still can until its file has been read, which begins now."""
        if (auth.users, auth.users_file) == (self._fixed, self._path):
            return self
        fresh = UsersFile(auth, self._in_thread, self._clock)
        if auth.users_file is not None:
            fresh.users = self.users
            fresh._looked = self._clock() - LOOK_AGAIN
            fresh.look()
        return fresh

    def open(self) -> None:
        """Reads the file, which blocks."""
        if self._path is not None:
            self._take(_read(self._path, None, self._fixed))

    def look(self) -> Deferred[None]:
        """Fires when `users` is what the file says, at once where it was looked at lately."""
        if self._path is None:
            return succeed(None)
        if self._looking is not None:
            waiting: Deferred[None] = Deferred()
            self._looking.append(waiting)
            return waiting
        now = self._clock()
        if now - self._looked < LOOK_AGAIN:
            return succeed(None)
        self._looked = now
        self._looking = []
        reading = self._in_thread(_read, self._path, self._state, self._fixed)
        return reading.addCallbacks(self._take, self._broken).addBoth(self._done)

    def _take(self, read: tuple[_State, Users | str] | None) -> None:
        if read is None:
            return
        self._state, found = read
        if isinstance(found, str):
            self._log.error("the accounts stay as they were: {reason}", reason=found)
        else:
            self.users = found
            self._log.info("{path}: accounts in all, now: {count}", path=str(self._path), count=len(found))

    def _broken(self, failure: Failure) -> None:
        self._log.failure("the accounts stay as they were", failure)

    def _done(self, _: object) -> None:
        waiting, self._looking = self._looking or [], None
        for one in waiting:
            one.callback(None)


def _read(path: Path, before: _State | None, fixed: tuple[ConfiguredUser, ...]) -> tuple[_State, Users | str] | None:
    """In a thread: the file's state, and all accounts or why there are no new ones; None where it is as `before`."""
    state: _State
    try:
        status = path.stat()
        state = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
    except OSError as error:
        state = f"{path}: {error.strerror}"
    if state == before:
        return None
    if isinstance(state, str):
        return state, state
    try:
        return state, Users((*fixed, *load_users(path)))
    except ConfigError as error:
        return state, str(error)
