"""A directory that knows passwords: an entry is looked for, and the password tried by binding as it. RFC 4511, 4513.

1. A connection is taken from a few that are kept; TLS is begun on a new one, and its certificate checked, before a
   word of it (nothing is sent in clear, but to this host itself).
2. We bind as who may look, and search; exactly one entry must be there.
3. We bind as that entry, with the password. An empty one is never sent: it would be taken for nobody's (4513 5.1.2).

Where there is no entry, a bind to one that does not exist takes its time. Each step has a time limit. What the
directory does not answer is Unavailable: never a pass, and no failure of the client's either.
"""

from __future__ import annotations

import secrets
from collections import deque
from contextlib import suppress
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IDelayedCall, IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from dcrouter.config.directory import Ldap
from dcrouter.config.targets import UpstreamTls
from dcrouter.errors import Unreachable
from dcrouter.mail.server.claims import Unavailable, Unknown, Wrong
from dcrouter.mail.server.ldap import Connection
from dcrouter.tls.peer import Peer
from dcrouter.tls.profile import client_context
from dcrouter.wire import ldapfilter

WITHIN = 5.0
"""Seconds for a connect, and for each answer."""
AT_ONCE = 8
"""Connections."""
WAITING = 200
"""Logins that wait for one of them; those beyond it are told to come again."""
TURN_WITHIN = 10.0
"""Seconds that one of them waits."""
KEPT = 60.0
"""Seconds for which a connection is kept that nobody uses."""

_SUCCESS, _NO_SUCH_OBJECT = 0, 32
_REFUSED = frozenset({19, _NO_SUCH_OBJECT, 48, 49, 50, 53})
"""Result codes (RFC 4511 appendix A) by which a directory says that somebody may not bind: constraintViolation,
noSuchObject, inappropriateAuthentication, invalidCredentials, insufficientAccessRights, unwillingToPerform."""


class Directory:
    """`trust`: PEM of the authorities instead of the system's."""

    _log = Logger()

    def __init__(self, config: Ldap, reactor: Any, *, trust: bytes | None = None, secure: bool | None = None) -> None:
        """`secure`: whether `ldap` becomes TLS, also on this host."""
        self.config = config
        self.identity = repr(config)
        self._reactor = reactor
        self._trust = trust
        self._clear = config.url.clear if secure is None else not secure
        self._filter = ldapfilter.parse(config.filter)
        self._context: SSL.Context | None = None
        self._idle: deque[tuple[Connection, IDelayedCall]] = deque()
        self._open: set[Connection] = set()
        self._busy = 0
        self._turns: deque[Deferred[None]] = deque()
        self._closed = False
        self._down = False

    async def check(self, name: str, password: str) -> Wrong | None:
        """None where the directory knows the name with this password. Raises Unavailable."""
        return await self._taking_turns(name, password)

    async def pretend(self, name: str) -> None:
        """Takes as long as `check`, for a name that is no matter of the directory's; whatever it says."""
        with suppress(Unavailable):
            await self._taking_turns(name, "")

    def close(self) -> None:
        """Ends the connections that nobody uses; the others end with their use, and who waits for one is served."""
        self._closed = True
        while self._idle:
            connection, call = self._idle.popleft()
            call.cancel()
            self._drop(connection)

    def abort(self) -> None:
        """Ends all of them; who waits for one gets nothing."""
        self.close()
        self._turns.clear()
        for connection in list(self._open):
            self._drop(connection)

    # ------------------------------------------------------------------ one login

    async def _taking_turns(self, name: str, password: str) -> Wrong | None:
        if self._busy >= AT_ONCE:
            if len(self._turns) >= WAITING:
                raise Unavailable("too many logins wait for the directory")
            await self._turn()
        else:
            self._busy += 1
        try:
            wrong = await self._login(name, password)
        except Unreachable as error:
            if not self._down:
                self._down = True
                self._log.error(
                    "the directory cannot be asked, nobody of it can log in: {url}: {reason}",
                    url=str(self.config.url),
                    reason=str(error),
                )
            raise Unavailable("the directory cannot be asked") from error
        finally:
            if self._turns:
                self._turns.popleft().callback(None)
            else:
                self._busy -= 1
        if self._down:
            self._down = False
            self._log.info("the directory answers again: {url}", url=str(self.config.url))
        return wrong

    async def _turn(self) -> None:
        """Waits for somebody who is done, but not for ever: a directory that hangs lets nobody through."""
        turn: Deferred[None] = Deferred()
        self._turns.append(turn)
        try:
            await turn.addTimeout(TURN_WITHIN, self._reactor)
        except TimeoutError:
            self._turns.remove(turn)
            raise Unavailable("too many logins wait for the directory") from None

    async def _login(self, name: str, password: str) -> Wrong | None:
        connection, entries = await self._found(name)
        try:
            entry = entries[0] if len(entries) == 1 and password else None
            dn = entry or f"cn={secrets.token_hex(8)},{self.config.base_dn}".encode()
            shown = password.encode("utf-8", "replace") if entry is not None else secrets.token_hex(8).encode()
            code = await self._in_time(connection.bind(dn, shown))
            if code != _SUCCESS and code not in _REFUSED:
                raise Unreachable(f"a bind was answered with result code {code}")
        except BaseException:
            self._drop(connection)
            raise
        self._keep(connection)
        if len(entries) > 1:
            self._log.warn("{url}: a name means several entries, and so nobody", url=str(self.config.url))
        if len(entries) != 1:
            return Unknown("several entries have that name") if entries else Unknown()
        return None if code == _SUCCESS and entry is not None else Wrong()

    async def _found(self, name: str) -> tuple[Connection, list[bytes]]:
        """A connection, and what was found on it. One that was kept may have ended meanwhile: then by a new one."""
        while self._idle:
            connection, call = self._idle.popleft()
            call.cancel()
            try:
                return connection, await self._search(connection, name)
            except Unreachable:
                continue
        connection = await self._connect()
        return connection, await self._search(connection, name)

    async def _search(self, connection: Connection, name: str) -> list[bytes]:
        config = self.config
        try:
            password = str.__str__(config.bind_password).encode() if config.bind_password is not None else b""
            code = await self._in_time(connection.bind((config.bind_dn or "").encode(), password))
            if code != _SUCCESS:
                raise Unreachable(f"bind_dn is refused with result code {code}")
            wanted = connection.search(config.base_dn.encode(), self._filter, name.encode("utf-8", "replace"), WITHIN)
            entries: list[bytes]
            code, entries = await self._in_time(wanted)
            if code == _NO_SUCH_OBJECT:
                raise Unreachable("base_dn is not there, or bind_dn may not see it")
            if code != _SUCCESS and len(entries) < 2:  # the limit of the search is two
                raise Unreachable(f"the search was answered with result code {code}")
        except BaseException:
            self._drop(connection)
            raise
        return entries

    # ------------------------------------------------------------------ connections

    async def _connect(self) -> Connection:
        url = self.config.url
        endpoint = HostnameEndpoint(self._reactor, url.host, url.port, timeout=WITHIN)
        try:
            connection: Any = await endpoint.connect(Factory.forProtocol(Connection))
        except Exception as error:
            raise Unreachable(f"no connection: {error}") from error
        assert isinstance(connection, Connection)
        self._open.add(connection)
        if self._clear:
            return connection
        try:
            if url.scheme == "ldap":
                code = await self._in_time(connection.ask_for_tls())
                if code != _SUCCESS:
                    raise Unreachable(f"StartTLS is refused with result code {code}")
            connection.secure(self._creator())
        except BaseException:
            self._drop(connection)
            raise
        return connection

    def _creator(self) -> _Creator:
        if self._context is None:
            self._context = client_context(UpstreamTls(verify=True), self._trust)
        return _Creator(self._context, self.config.url.host)

    def _keep(self, connection: Connection) -> None:
        if self._closed:
            self._drop(connection)
            return
        call = self._reactor.callLater(KEPT, self._expire, connection)
        self._idle.append((connection, call))

    def _expire(self, connection: Connection) -> None:
        self._idle = deque(one for one in self._idle if one[0] is not connection)
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.end()

    async def _in_time(self, answer: Deferred[Any]) -> Any:
        try:
            return await answer.addTimeout(WITHIN, self._reactor)
        except Unreachable:
            raise
        except Exception as error:
            raise Unreachable(f"no answer: {error or 'in time'}") from error


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """The name is checked within the handshake, so that nothing is said to somebody else."""

    def __init__(self, context: SSL.Context, host: str) -> None:
        self._context = context
        self.peer = Peer(host, verify=True, early=True)

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        self.peer.expect(connection)
        return connection
