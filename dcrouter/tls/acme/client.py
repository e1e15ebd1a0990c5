"""Signed requests to one CA: its directory, which is kept, and nonces, of which every answer brings another.

RFC 8555 sections 6.2 to 6.5 and 7.2.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.config.urls import told_url
from dcrouter.errors import AcmeError, AcmeUnreachable
from dcrouter.tls.acme.answers import Answer
from dcrouter.tls.acme.directory import Directory
from dcrouter.tls.acme.jws import Signer
from dcrouter.tls.acme.problems import problem_of
from dcrouter.tls.acme.transport import Gone, Transport
from dcrouter.tls.acme.waiting import Patience, Shared

TRIES = 10
"""Of one request whose nonce is refused: with four of ten refused, one request in ten thousand fails for it."""
DIRECTORY_LASTS = 86400.0
"""Seconds; CAs add to theirs (ARI, profiles) without telling."""
_MOST_NONCES = 64
_LONGEST_NONCE = 1024


class Client:
    def __init__(self, reactor: Any, url: str, trust: bytes | None, patience: Patience) -> None:
        self._reactor = reactor
        self._url = url
        self._transport = Transport(reactor, trust, patience)
        self._nonces: deque[str] = deque(maxlen=_MOST_NONCES)
        self._directory: Directory | None = None
        self._known_since = 0.0
        self._fetched = Shared(self._fetch)

    async def directory(self) -> Directory:
        """As it was within the last day."""
        if self._directory is None or self._reactor.seconds() - self._known_since > DIRECTORY_LASTS:
            return await self._fetched.get()
        return self._directory

    async def get(self, url: str) -> Answer:
        """Without a signature: the directory and ARI only. AcmeError where the answer is not a good one."""
        return self._good(await self._ask("GET", url))

    async def post(self, url: str, payload: Any, signer: Signer, account: str | None = None) -> Answer:
        """A signed request; `payload` None: POST-as-GET. `account`: its URL, None: the key itself is shown instead.

        AcmeError where the answer is not a good one.
        """
        left, again = TRIES, True
        while True:
            who: dict[str, Any] = {"jwk": signer.jwk} if account is None else {"kid": account}
            jws = signer.sign({"nonce": await self._nonce(), "url": url, **who}, payload)
            try:
                return self._good(await self._transport.request("POST", url, json.dumps(jws).encode()))
            except Gone:
                if not again:
                    raise
                again = False  # and with another nonce, for that one may be used up
            except AcmeError as error:
                left -= 1
                if error.type != "badNonce" or not left:
                    raise

    def close(self) -> Deferred[None]:
        self._nonces.clear()
        return self._transport.close()

    async def _fetch(self) -> Directory:
        answer = await self.get(self._url)
        self._directory = Directory.of(answer.fields())
        self._known_since = self._reactor.seconds()
        return self._directory

    async def _nonce(self) -> str:
        """The newest, which is the least likely to have run out."""
        if self._nonces:
            return self._nonces.pop()
        directory = await self.directory()
        answer = await self._ask("HEAD", directory.new_nonce)
        if not 200 <= answer.status < 300:
            raise problem_of(answer)
        if answer.nonce is None:
            raise AcmeUnreachable(f"{told_url(answer.url)} gives no nonce (Replay-Nonce)")
        return answer.nonce

    async def _ask(self, method: str, url: str) -> Answer:
        """Unsigned, and therefore as good a second time."""
        try:
            return await self._transport.request(method, url)
        except Gone:
            return await self._transport.request(method, url)

    def _good(self, answer: Answer) -> Answer:
        if answer.nonce is not None and len(answer.nonce) <= _LONGEST_NONCE:
            self._nonces.append(answer.nonce)
        if not 200 <= answer.status < 300:
            raise problem_of(answer)
        return answer
