"""The realm of accounts and the checkers of what clients claim, for a Portal of twisted.cred.

A name that `users` or `users_file` has is theirs alone: no directory is believed about its password. Whoever nobody
knows costs as much as anybody: the hash of an impostor is computed, an entry that is not there is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from dcrouter.mail.server.claims import (
    IAccount,
    IPasswordClaim,
    IProofClaim,
    ITokenClaim,
    PasswordClaim,
    ProofClaim,
    TokenClaim,
    Unavailable,
    Unknown,
    Wrong,
)
from dcrouter.mail.server.directory import Directory
from dcrouter.mail.server.gate import Busy, Gate
from dcrouter.mail.server.issuer import Issuer
from dcrouter.mail.server.passwords import UnusableHash, verify
from dcrouter.mail.server.remembered import Remembered
from dcrouter.mail.server.users import User, Users
from dcrouter.wire.sasl import prepare_account
from dcrouter.wire.scram import Verifier


def portal(
    users: Callable[[], Users], gate: Gate, remembered: Remembered, directory: Directory | None, issuer: Issuer | None
) -> Portal:
    """`users`: the table as it is now."""
    found = Portal(Realm(users), [PasswordChecker(users, gate, remembered, directory), ProofChecker(users)])
    if issuer is not None:
        found.registerChecker(TokenChecker(issuer))
    return found


@implementer(IRealm)
class Realm:
    """Accounts by name, of every source."""

    def __init__(self, users: Callable[[], Users]) -> None:
        self._users = users

    def requestAvatar(self, avatarId: Any, mind: object, *interfaces: Any) -> tuple[Any, User, Callable[[], None]]:
        if IAccount not in interfaces:
            raise NotImplementedError("only IAccount")
        return IAccount, self._users().known_elsewhere(avatarId), lambda: None


@implementer(ICredentialsChecker)
class PasswordChecker:
    """Of the table, and of a directory where there is one."""

    credentialInterfaces = (IPasswordClaim,)
    _log = Logger()

    def __init__(
        self, users: Callable[[], Users], gate: Gate, remembered: Remembered, directory: Directory | None
    ) -> None:
        self._users = users
        self._gate = gate
        self._remembered = remembered
        self._directory = directory

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, claim: PasswordClaim) -> str:
        users, directory = self._users(), self._directory
        name, password = claim.account, claim.credentials.password
        user = users.find(name)
        if user is None and directory is not None:
            seal = self._remembered.seal("directory", directory.identity, prepare_account(name), password)
            if password and self._remembered.told(seal) is not None:
                return prepare_account(name)
        good = bool(len(users)) and await self._hashed(claim, users, user)
        if directory is None or user is not None:
            if directory is not None and not good:
                await directory.pretend(name)
            if user is None:
                raise Unknown
            if not good:
                raise Wrong
            return user.name
        wrong = await directory.check(name, password)
        if wrong is not None:
            raise wrong
        self._remembered.keep(seal)
        return prepare_account(name)

    async def _hashed(self, claim: PasswordClaim, users: Users, user: User | None) -> bool:
        """Whether the password is that of the table's user, or of the impostor, who has none."""
        hashed = user.password_hash if user is not None else users.impostor(claim.account)
        password = claim.credentials.password
        seal = self._remembered.seal("hash", hashed, password)
        if self._remembered.told(seal) is not None:
            return True
        try:
            good = await self._gate.run(claim.owner, partial(verify, hashed, password), preferred=claim.preferred)
        except Busy:
            raise Unavailable("too many logins at once") from None
        except UnusableHash as error:
            name = user.name if user is not None else "nobody"
            self._log.error("the hash of {account} is unusable: {reason}", account=name, reason=str(error))
            return False
        if good:
            self._remembered.keep(seal)
        return good


@implementer(ICredentialsChecker)
class ProofChecker:
    """Of the table's verifiers."""

    credentialInterfaces = (IProofClaim,)

    def __init__(self, users: Callable[[], Users]) -> None:
        self._users = users

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, claim: ProofClaim) -> str:
        user = self._users().find(claim.account)
        verifier = user.scram if user is not None else None
        good = claim.proof.fits(verifier or _NOBODY)
        if user is None:
            raise Unknown
        if verifier is None:
            raise Wrong("the account has no verifier for SCRAM")
        if not good:
            raise Wrong if claim.proof.bound else Wrong("bound to another channel: somebody is in between")
        return user.name


@implementer(ICredentialsChecker)
class TokenChecker:
    """Of an issuer's tokens."""

    credentialInterfaces = (ITokenClaim,)

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, claim: TokenClaim) -> str:
        name = await self._issuer.account(claim.token.token)
        if claim.account and prepare_account(claim.account) != prepare_account(name):
            raise Wrong("the token is of another account")
        return name


_NOBODY = Verifier.impostor("", b"", 4096)
