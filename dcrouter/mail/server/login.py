"""Who a client is: credentials in, an answer to AUTH out. RFC 4954 6 (replies), 9 (security).

1. An address that is banned is not listened to.
2. The account is looked up; for a name that nobody has the hash of an impostor is computed, so that both take as long.
3. Hashes are computed in threads behind a gate (`gate`); credentials that were right a moment ago are not hashed again.
4. A wrong password counts against the address and the account (`failures`); the answer may be late on purpose.

No password is kept, logged, or part of an error: what was right is remembered for REMEMBERED seconds as a keyed digest,
whose key is this process's and random.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dcrouter.config.accounts import Auth
from dcrouter.mail.envelope import Client
from dcrouter.mail.server import bans
from dcrouter.mail.server.failures import Failures
from dcrouter.mail.server.gate import Busy, Gate
from dcrouter.mail.server.passwords import UnusableHash, verify
from dcrouter.mail.server.users import User, UsersFile
from dcrouter.match.addresses import count_key
from dcrouter.wire.sasl import Credentials, prepare_account

REMEMBERED = 30.0
"""Seconds: a client with a connection for each message costs one hash in this time. A password that is changed is
changed at once, as its hash is part of what is remembered."""
MAX_REMEMBERED = 1000

_WELCOME = b"235 2.7.0 Authentication succeeded\r\n"
_WRONG = b"535 5.7.8 Authentication credentials invalid\r\n"
_BUSY = b"454 4.7.0 Temporary authentication failure\r\n"
_BANNED = b"454 4.7.0 Too many failed logins from your address\r\n"
BANNED = b"421 4.7.0 Too many failed logins from your address"


class Verdict(NamedTuple):
    """`reply` answers AUTH; `user` None: not logged in."""

    reply: bytes
    user: User | None = None


class Login:
    """The accounts of `auth`. `open` reads what there is to read; `close` ends the threads."""

    _log = Logger()

    def __init__(self, auth: Auth, reactor: Any, *, width: int | None = None) -> None:
        self._reactor = reactor
        self._methods = auth.methods
        self._gate = Gate(reactor, width)
        self._file = UsersFile(auth, self._gate.in_thread, reactor.seconds)
        self._failures = Failures(auth.failures, reactor.seconds)
        self._config = auth.failures
        self._key = os.urandom(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        self._pauses: set[IDelayedCall] = set()
        self._closed = False
        self.succeeded = 0
        self.failed = 0

    def open(self) -> None:
        """Blocks while `users_file` is read."""
        self._file.open()

    def reload(self, auth: Auth) -> None:
        """Other accounts and numbers from now on; bans stay, and who is logged in is so until the connection ends."""
        self._methods = auth.methods
        self._config = auth.failures
        self._failures.reload(auth.failures)
        self._file = self._file.successor(auth)

    def close(self) -> None:
        """Who waits for an answer gets none; blocks until the hashes that are being computed are."""
        self._closed = True
        for pause in self._pauses:
            pause.cancel()
        self._pauses.clear()
        self._gate.close()

    def offered(self) -> tuple[str, ...]:
        """The mechanisms for EHLO: none where nobody could log in. What `users_file` says by now is for the next."""
        self._file.look()
        return self._methods if self._file.users else ()

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

    def check(self, credentials: Credentials, client: Client, session: str) -> Deferred[Verdict]:
        """The answer to one AUTH; never fails. `client` as it was before."""
        return Deferred.fromCoroutine(self._check(credentials, client, session))

    async def _check(self, credentials: Credentials, client: Client, session: str) -> Verdict:
        failures, address, name = self._failures, client.address, credentials.account
        if not client.trusted and failures.banned(address):
            return self._refused("the address is banned", _BANNED, name, client, session)
        await self._file.look()
        users = self._file.users
        if not users:
            return self._refused("there are no accounts", _WRONG, name, client, session)
        user = users.find(name)
        hashed = user.password_hash if user is not None else users.impostor(name)
        acquainted = failures.acquainted(address, name)
        seal = self._seal(hashed, credentials)
        good = self._remembered.get(seal, 0.0) > self._reactor.seconds()
        if not good:
            call = partial(verify, hashed, credentials.password)
            try:
                good = await self._gate.run(count_key(address), call, preferred=acquainted)
            except Busy:
                return self._refused("too many logins at once", _BUSY, name, client, session)
            except UnusableHash as error:
                self._log.error("the hash of {account} is unusable: {reason}", account=_shown(name), reason=str(error))
        other = prepare_account(credentials.authorize_as) not in ("", prepare_account(name))
        right = user if good and not other else None
        delay = failures.delay(address, name)
        if right is None:
            self._count_failure(client, name)  # before the pause: others on their way are to feel it
        if delay:
            await self._pause(delay)
        banned = not client.trusted and failures.banned(address)
        if right is not None and not banned:
            return self._welcome(right, seal, client, session)
        reason = "no such account" if user is None else "wrong password" if right is None else "the address is banned"
        return self._refused(reason, BANNED + b"\r\n" if banned else _WRONG, name, client, session)

    # ------------------------------------------------------------------ outcomes

    def _welcome(self, user: User, seal: bytes, client: Client, session: str) -> Verdict:
        self.succeeded += 1
        self._failures.succeeded(client.address, user.name)
        if seal not in self._remembered or self._remembered[seal] <= self._reactor.seconds():
            self._remembered[seal] = self._reactor.seconds() + REMEMBERED
            self._remembered.move_to_end(seal)
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        self._log.info(
            "{session}: {account} has logged in from {peer}",
            session=session,
            account=_shown(user.name),
            peer=client.address,
        )
        return Verdict(_WELCOME, user)

    def _count_failure(self, client: Client, name: str) -> None:
        if self._failures.failed(client.address, name, bannable=not client.trusted):
            self._log.warn(
                "{peer} is banned for {seconds} s: {count} failed logins within {within} s",
                peer=count_key(client.address),
                seconds=round(self._config.ban),
                count=self._config.max,
                within=round(self._config.within),
            )

    def _refused(self, reason: str, reply: bytes, name: str, client: Client, session: str) -> Verdict:
        self.failed += 1
        self._log.info(
            "{session}: login of {account} from {peer} failed: {reason}",
            session=session,
            account=_shown(name),
            reason=reason,
            peer=client.address,
        )
        return Verdict(reply)

    # ------------------------------------------------------------------ what it is made of

    def _seal(self, hashed: str, credentials: Credentials) -> bytes:
        """What a pair of hash and password is remembered by."""
        text = f"{hashed}\0{credentials.password}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()

    async def _pause(self, seconds: float) -> None:
        over: Deferred[None] = Deferred()
        if self._closed:
            await over
        pause = self._reactor.callLater(seconds, over.callback, None)
        self._pauses.add(pause)
        await over
        self._pauses.discard(pause)


def _shown(name: str) -> str:
    """An account's name as logs show it: what a client sent may be of any length and content."""
    return "".join(character if character.isprintable() else "?" for character in name[:64])
