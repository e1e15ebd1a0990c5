"""Who a client is: what it claims in, an answer to AUTH out. RFC 4954 6 (replies), 9 (security).

1. An address that is banned is not listened to.
2. What is claimed is checked through a portal of twisted.cred (`checkers`), by whoever can check its kind.
3. What is wrong counts against the address and the account (`failures`), whatever the mechanism; the answer may be late
   on purpose. Where nobody can tell now, it is 454 and counts against nobody.

No password, proof or token is kept, logged, or part of an error. Nor is a name that nobody has: it may be a password,
typed in the wrong place.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dcrouter.config.accounts import Auth
from dcrouter.config.methods import announced
from dcrouter.durable import write_whole
from dcrouter.mail.envelope import Client
from dcrouter.mail.ledger import Ledger
from dcrouter.mail.server import bans
from dcrouter.mail.server.checkers import portal
from dcrouter.mail.server.claims import IAccount, IClaim, PasswordClaim, ProofClaim, TokenClaim, Unavailable, Unknown
from dcrouter.mail.server.directory import Directory
from dcrouter.mail.server.exchanges import Exchange, Verdict, exchange
from dcrouter.mail.server.failures import Failures
from dcrouter.mail.server.gate import Gate
from dcrouter.mail.server.issuer import Issuer
from dcrouter.mail.server.remembered import Remembered
from dcrouter.mail.server.users import User, UsersFile
from dcrouter.match.addresses import count_key
from dcrouter.tls.keysets import KeySets
from dcrouter.wire.bearer import Token
from dcrouter.wire.sasl import Credentials, prepare_account
from dcrouter.wire.scram import Proof, Verifier

_WELCOME = b"235 2.7.0 Authentication succeeded\r\n"
_WRONG = b"535 5.7.8 Authentication credentials invalid\r\n"
_BUSY = b"454 4.7.0 Temporary authentication failure\r\n"
_BANNED = b"454 4.7.0 Too many failed logins from your address\r\n"
BANNED = b"421 4.7.0 Too many failed logins from your address"

SECRET = "login.key"
"""The file in `state_dir` whose octets make the salts of accounts that do not exist: the same ones after a restart."""
_SECRET_SIZE = 32


class Login:
    """The accounts of `auth`. `open` reads what there is to read; `close` ends the threads and connections.

    `state_dir`: where SECRET is, None for one that nobody keeps. `ledger`: where bans are kept, likewise.
    """

    _log = Logger()

    def __init__(
        self,
        auth: Auth,
        reactor: Any,
        *,
        width: int | None = None,
        key_sets: KeySets | None = None,
        state_dir: Path | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self._reactor = reactor
        self._auth = auth
        self._known: tuple[Auth | None, int, bool] = (None, 0, False)
        self._offered: tuple[str, ...] = ()
        self._gate = Gate(reactor, width)
        self._key_sets = key_sets or KeySets()
        self._state_dir = state_dir
        self._secret = os.urandom(_SECRET_SIZE)
        self._file = UsersFile(auth, self._gate.in_thread, reactor.seconds)
        self._failures = Failures(auth.failures, reactor.seconds, ledger)
        self._remembered = Remembered(reactor.seconds)
        self._directory: Directory | None = None
        self._issuer: Issuer | None = None
        self._pauses: set[IDelayedCall] = set()
        self._closed = False
        self.succeeded = 0
        self.failed = 0
        self._assemble()

    def open(self) -> None:
        """Blocks while `users_file` is read, the secret, and bans."""
        self._file.open()
        self._failures.open()
        if self._state_dir is not None:
            self._secret = self._kept(self._state_dir / SECRET)

    def reload(self, auth: Auth) -> None:
        """Other accounts and numbers from now on; bans stay, and who is logged in is so until the connection ends."""
        self._auth = auth
        self._failures.reload(auth.failures)
        self._file = self._file.successor(auth)
        self._assemble()

    def close(self) -> None:
        """Who waits for an answer gets none; blocks until the hashes that are being computed are."""
        self._closed = True
        for pause in self._pauses:
            pause.cancel()
        self._pauses.clear()
        if self._directory is not None:
            self._directory.abort()
        self._gate.close()

    def _assemble(self) -> None:
        """Sources that are as they were keep their connections and what they know."""
        auth = self._auth
        if self._directory is not None and self._directory.config != auth.ldap:
            self._directory.close()
            self._directory = None
        if self._directory is None and auth.ldap is not None:
            self._directory = Directory(auth.ldap, self._reactor)
        if self._issuer is None or self._issuer.config != auth.oauth2:
            oauth2 = auth.oauth2
            self._issuer = (
                Issuer(oauth2, self._key_sets, self._remembered, self._reactor, time.time)
                if oauth2 is not None
                else None
            )
        self._portal = portal(lambda: self._file.users, self._gate, self._remembered, self._directory, self._issuer)

    def offered(self) -> tuple[str, ...]:
        """The mechanisms for EHLO: none where nobody could log in. What `users_file` says by now is for the next."""
        self._file.look()
        users = self._file.users
        known = (self._auth, len(users), users.scram)
        if known[0] is not self._known[0] or known[1:] != self._known[1:]:
            self._known = known
            self._offered = announced(self._auth, accounts=known[1], scram=known[2])
        return self._offered

    def named(self, name: str) -> User:
        """The account of this name, whom somebody else has let in; one that no table has may send as the address that
        its name is, if it is one."""
        return self._file.users.known_elsewhere(name)

    def banned(self, address: str) -> bool:
        return self._failures.banned(address)

    def ask_bans(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What an operator asks of the bans, see `bans`."""
        answer = bans.answered(self._failures, fields)
        if answer.get("lifted"):
            self._log.info(
                "{count} bans lifted by the operator: {address}",
                count=answer["lifted"],
                address=fields.get("address") or "all",
            )
        return answer

    def status(self) -> dict[str, int]:
        return {"logins": self.succeeded, "failed_logins": self.failed, "banned": self._failures.bans}

    # ------------------------------------------------------------------ one login

    def begin(
        self,
        mechanism: str,
        client: Client,
        session: str,
        bindings: Callable[[], Mapping[str, bytes]],
        offered: tuple[str, ...],
    ) -> Exchange:
        """By one of the mechanisms `offered`; `client` as it was before. `bindings`: see `exchange`."""
        return exchange(mechanism, self, client, session, bindings, offered)

    async def verifier(self, name: str) -> Verifier:
        """What a client that claims to be of that name is challenged with: an impostor's for who cannot log in so."""
        await self._file.look()
        users = self._file.users
        user = users.find(name)
        if user is not None and user.scram is not None:
            return user.scram
        return Verifier.impostor(prepare_account(name), self._secret, users.iterations)

    def check(self, claimed: Credentials | Proof | Token, client: Client, session: str) -> Deferred[Verdict]:
        """The answer to what is claimed; never fails."""
        return Deferred.fromCoroutine(self._check(claimed, client, session))

    async def _check(self, claimed: Credentials | Proof | Token, client: Client, session: str) -> Verdict:
        failures, address, name = self._failures, client.address, claimed.account
        if not client.trusted and failures.banned(address):
            return self._refused("the address is banned", _BANNED, claimed, client, session)
        await self._file.look()
        right: User | None = None
        reason, known = "", False
        try:
            logged_in: Any = await self._portal.login(self._claim(claimed, client), None, IAccount)
            right = logged_in[1]
        except Unavailable as error:
            return self._refused(str(error), _BUSY, claimed, client, session)
        except UnauthorizedLogin as error:
            reason, known = str(error), not isinstance(error, Unknown)
        except Exception:  # of a library, say; who waits for an answer gets one
            self._log.failure("{session}: a login could not be checked", session=session)
            return self._refused("it could not be checked", _BUSY, claimed, client, session)
        if right is not None and not _is_own(claimed, right):
            right, reason, known = None, "it wants to act for another account", True
        delay = failures.delay(address, name)
        if right is None:
            self._count_failure(client, name)  # before the pause: others on their way are to feel it
        if delay:
            await self._pause(delay)
        banned = not client.trusted and failures.banned(address)
        if right is not None and not banned:
            return self._welcome(right, client, session)
        reply = BANNED + b"\r\n" if banned else _WRONG
        return self._refused(reason or "the address is banned", reply, claimed, client, session, known=known)

    def _claim(self, claimed: Credentials | Proof | Token, client: Client) -> IClaim:
        if isinstance(claimed, Proof):
            return ProofClaim(proof=claimed)
        if isinstance(claimed, Token):
            return TokenClaim(token=claimed)
        return PasswordClaim(
            credentials=claimed,
            owner=count_key(client.address),
            preferred=self._failures.acquainted(client.address, claimed.account),
        )

    # ------------------------------------------------------------------ outcomes

    def _welcome(self, user: User, client: Client, session: str) -> Verdict:
        self.succeeded += 1
        self._failures.succeeded(client.address, user.name)
        self._log.info(
            "{session}: {account} has logged in from {peer}",
            session=session,
            account=_shown(user.name),
            peer=client.address,
        )
        return Verdict(_WELCOME, user)

    def _count_failure(self, client: Client, name: str) -> None:
        config = self._auth.failures
        if self._failures.failed(client.address, name, bannable=not client.trusted):
            self._log.warn(
                "{peer} is banned for {seconds} s: {count} failed logins within {within} s",
                peer=count_key(client.address),
                seconds=round(config.ban),
                count=config.max,
                within=round(config.within),
            )

    def _refused(
        self,
        reason: str,
        reply: bytes,
        claimed: Credentials | Proof | Token,
        client: Client,
        session: str,
        *,
        known: bool = False,
    ) -> Verdict:
        """`known`: somebody has that name, as far as was asked."""
        self.failed += 1
        known = known or self._file.users.find(claimed.account) is not None
        self._log.info(
            "{session}: login of {account} from {peer} by {means} failed: {reason}",
            session=session,
            account=_shown(claimed.account) if known else self._unnamed(claimed.account),
            means="token" if isinstance(claimed, Token) else "SCRAM" if isinstance(claimed, Proof) else "password",
            reason=reason,
            peer=client.address,
        )
        return Verdict(reply)

    def _unnamed(self, name: str) -> str:
        """A name that nobody may have, for the log: always the same, and of no use to who does not know SECRET."""
        if not name:
            return "nobody that is named"
        text = prepare_account(name).encode("utf-8", "replace")
        return f"unknown#{hashlib.blake2b(text, key=self._secret, person=b'log', digest_size=4).hexdigest()}"

    # ------------------------------------------------------------------ what it is made of

    def _kept(self, path: Path) -> bytes:
        """What the file holds, made where it is missing. A disk that takes none costs only that nobody keeps it."""
        try:
            found = path.read_bytes()
            if len(found) == _SECRET_SIZE:
                return found
        except FileNotFoundError:
            pass
        except OSError as error:
            self._log.error("{path} cannot be read: {reason}", path=str(path), reason=error.strerror)
            return self._secret
        try:
            write_whole(path, self._secret, 0o600)
        except OSError as error:
            self._log.error("{path} cannot be written: {reason}", path=str(path), reason=error.strerror)
        return self._secret

    async def _pause(self, seconds: float) -> None:
        over: Deferred[None] = Deferred()
        if self._closed:
            await over
        pause = self._reactor.callLater(seconds, over.callback, None)
        self._pauses.add(pause)
        await over
        self._pauses.discard(pause)


def _is_own(claimed: Credentials | Proof | Token, user: User) -> bool:
    """Whether the client wants to act for itself: a token's name was compared with what the client says."""
    other = "" if isinstance(claimed, Token) else prepare_account(claimed.authorize_as)
    return other in ("", prepare_account(user.name))


def _shown(name: str) -> str:
    """An account's name as logs show it: what a client sent may be of any length and content."""
    return "".join(character if character.isprintable() else "?" for character in name[:64])
