"""One login of a client, from its first words to the reply that ends it: the server's side of a mechanism of SASL.

`Exchange.receive(response)` gives, each time, a `Verdict`: a 334 with the next challenge, or the end. What octets mean
is told by wire/sasl, wire/scram and wire/bearer; who is who by `Login`. RFC 4954 4: what a mechanism says with its
success is a challenge of its own here, which the client answers with nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import Deferred

from dcrouter.errors import WireError
from dcrouter.mail.envelope import Client
from dcrouter.mail.server.users import User
from dcrouter.wire import bearer, sasl
from dcrouter.wire.bearer import OAUTHBEARER, XOAUTH2
from dcrouter.wire.sasl import MALFORMED, Credentials
from dcrouter.wire.scram import PLUS, SCRAM, Proof, Scram, Verifier

if TYPE_CHECKING:
    from dcrouter.mail.server.login import Login


class Verdict(NamedTuple):
    """`reply` answers AUTH, or what the client said to a challenge; `user` None: not logged in."""

    reply: bytes
    user: User | None = None


class Exchange(ABC):
    """`client` as it was before; `session`: for the log."""

    def __init__(self, login: Login, client: Client, session: str) -> None:
        self._login = login
        self._client = client
        self._session = session

    def receive(self, response: bytes | None) -> Deferred[Verdict]:
        """What is said to a response; None: the client has said nothing yet. Never fails."""
        return Deferred.fromCoroutine(self._receive(response))

    async def _receive(self, response: bytes | None) -> Verdict:
        try:
            step = await self._step(response)
        except WireError as error:
            return Verdict((error.reply or MALFORMED) + b"\r\n")
        return step if isinstance(step, Verdict) else Verdict(b"334 " + sasl.encode(step) + b"\r\n")

    @abstractmethod
    async def _step(self, response: bytes | None) -> bytes | Verdict:
        """The next challenge, or the end. WireError, with the reply, for what is malformed."""

    async def _check(self, claimed: Credentials | Proof | bearer.Token) -> Verdict:
        return await self._login.check(claimed, self._client, self._session)


class PasswordExchange(Exchange):
    """PLAIN or LOGIN."""

    def __init__(self, mechanism: str, login: Login, client: Client, session: str) -> None:
        super().__init__(login, client, session)
        self._exchange = sasl.Exchange(mechanism)

    async def _step(self, response: bytes | None) -> bytes | Verdict:
        step = self._exchange.receive(response)
        return await self._check(step) if isinstance(step, Credentials) else step


class ProofExchange(Exchange):
    """SCRAM-SHA-256 or SCRAM-SHA-256-PLUS."""

    def __init__(self, scram: Scram, login: Login, client: Client, session: str) -> None:
        super().__init__(login, client, session)
        self._scram = scram
        self._verifier: Verifier | None = None
        self._verdict: Verdict | None = None

    async def _step(self, response: bytes | None) -> bytes | Verdict:
        if self._verdict is not None:
            if response:
                raise WireError("a response to the server's last message", MALFORMED)
            return self._verdict
        if response is None:
            return b""
        if self._verifier is None:
            self._verifier = await self._login.verifier(self._scram.first(response))
            return self._scram.challenge(self._verifier)
        proof = self._scram.final(response)
        verdict = await self._check(proof)
        if verdict.user is None:
            return verdict
        self._verdict = verdict
        return proof.signature(self._verifier)


class TokenExchange(Exchange):
    """OAUTHBEARER or XOAUTH2: a client whose token is not good is told so before the login has failed."""

    def __init__(self, mechanism: str, login: Login, client: Client, session: str) -> None:
        super().__init__(login, client, session)
        self._mechanism = mechanism
        self._verdict: Verdict | None = None

    async def _step(self, response: bytes | None) -> bytes | Verdict:
        if self._verdict is not None:
            return self._verdict
        if response is None:
            return b""
        verdict = await self._check(bearer.read(self._mechanism, response))
        if verdict.user is not None or not verdict.reply.startswith(b"535"):
            return verdict
        self._verdict = verdict
        return bearer.refusal(self._mechanism)


def exchange(
    mechanism: str,
    login: Login,
    client: Client,
    session: str,
    bindings: Callable[[], Mapping[str, bytes]],
    offered: tuple[str, ...],
) -> Exchange:
    """For one of the mechanisms `offered`. `bindings`: what this channel can be bound to, type -> data."""
    if mechanism in (SCRAM, PLUS):
        scram = Scram(plus=mechanism == PLUS, bindings=bindings(), offered=PLUS in offered)
        return ProofExchange(scram, login, client, session)
    if mechanism in (OAUTHBEARER, XOAUTH2):
        return TokenExchange(mechanism, login, client, session)
    return PasswordExchange(mechanism, login, client, session)
