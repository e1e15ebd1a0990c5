"""An ACME CA in the test's own process: it believes every challenge, keeps what it was asked, and misbehaves as told.

It signs real certificates and takes a nonce once; whether requests are signed well is Pebble's to say. What Pebble
lacks is here: ARI, profiles, rate limits, Retry-After, and every way not to answer.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IAddress, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from dcrouter.config.tls import TlsProfile
from dcrouter.tls.profile import server_context
from tests.support.certificates import Authority
from tests.support.facts import until
from tests.support.serving import listen

URN = "urn:ietf:params:acme:error:"
SILENT = "silent"
CUT = "cut"
HALF = "half"
HUGE = "huge"
ENDLESS = "endless"
HELD = "held"
LOST = "lost"
"""It never answers; closes instead; closes in the middle of a body; sends 2 MB; begins a body and falls silent; answers
when `release` is called; does what it is asked for and closes then.
"""


class Says(NamedTuple):
    """Instead of the right answer. `body`: as JSON, or octets as they are."""

    status: int
    body: Any = None
    headers: Mapping[str, str | bytes] = {}


def problem(kind: str, detail: str = "because", status: int = 400, retry_after: str | None = None, **more: Any) -> Says:
    """A problem document of this type."""
    headers = {"Content-Type": "application/problem+json"}
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    return Says(status, {"type": URN + kind, "detail": detail, "status": status, **more}, headers)


class Asked(NamedTuple):
    """`kind`: directory, nonce, account, order, authorization, challenge, finalize, certificate, revoke, renewal ..."""

    kind: str
    protected: dict[str, Any]
    payload: Any
    headers: Any


Temper = str | Says | Callable[[Asked], Says | None]


class AcmeCa:
    """At `url`, believed by `trust` (PEM). `asked`: every request, in order.

    `renewal`: what it says of when to renew, None: it has no ARI. `profiles`: those it has. `pending`: how often an
    authorization, and an order that is finalized, are asked in vain. `names_of`: names of its own certificate.
    """

    def __init__(self, case: TestCase, *names: str, address: str = "127.0.0.1") -> None:
        self.asked: list[Asked] = []
        self.renewal: Any = None
        self.profiles: dict[str, str] = {}
        self.pending = 0
        self.days = 30.0
        self.retry_after: str | None = None
        self.authority = Authority()
        self.trust = self.authority.root_pem
        self._tempers: dict[str, list[Temper | None]] = {}
        self._nonces: set[str] = set()
        self._orders: list[dict[str, Any]] = []
        self._authorizations: list[dict[str, Any]] = []
        self._asked_in_vain: dict[str, int] = {}
        self._accounts: dict[str, dict[str, Any]] = {}
        self._held: list[Callable[[], None]] = []
        self._count = 0
        self._open = True
        credential = self.authority.credential(names or ["localhost", "127.0.0.1"])
        behind = _Behind(Site(_Everything(self), timeout=None))
        self._sessions = _Sessions(server_context([credential], TlsProfile()))
        self._factory = TLSMemoryBIOFactory(self._sessions, False, behind)
        self._factory.noisy = False
        self._port = listen(self._factory, address)
        self.port: int = self._port.getHost().port
        host = "localhost" if address == "127.0.0.1" else f"[{address}]"
        self.base = f"https://{host}:{self.port}"
        self.url = f"{self.base}/directory"
        case.addCleanup(self.close)

    def behave(self, kind: str, *tempers: Temper | None, times: int = 1) -> None:
        """How it answers the next requests of this kind, each `times`; None: well. After that it is well."""
        self._tempers.setdefault(kind, []).extend(temper for temper in tempers for _ in range(times))

    def well(self) -> None:
        """From now on."""
        self._tempers.clear()

    def kinds(self) -> list[str]:
        """Of what it was asked."""
        return [one.kind for one in self.asked]

    def payloads(self, kind: str) -> list[Any]:
        return [one.payload for one in self.asked if one.kind == kind]

    async def close(self) -> None:
        """Nobody is connected any more when this returns."""
        if self._open:
            self._open = False
            await self._port.stopListening()
            for connection in list(self._factory.protocols):
                connection.transport.abortConnection()
            await until(lambda: not self._factory.protocols)

    @property
    def made(self) -> int:
        """Connections that there have been."""
        return self._sessions.count

    @property
    def connections(self) -> int:
        return len(self._factory.protocols)

    # ------------------------------------------------------------------

    def render(self, request: Any) -> Any:
        kind, _, rest = request.path.decode().strip("/").partition("/")
        text = request.content.read()
        jws = json.loads(text) if text else None
        protected = json.loads(_decoded(jws["protected"])) if jws else {}
        payload = json.loads(_decoded(jws["payload"]) or b"null") if jws else None
        asked = Asked(kind, protected, payload, request.requestHeaders)
        self.asked.append(asked)
        answer: Any = None
        if jws and protected["nonce"] not in self._nonces:
            answer = problem("badNonce", "never heard of it")
        self._nonces.discard(protected.get("nonce", ""))
        waiting = self._tempers.get(kind)
        if answer is None and waiting:
            answer = waiting.pop(0)
            if callable(answer):
                answer = answer(asked)
        if answer == LOST:
            getattr(self, f"_{kind}")(rest, asked)
            answer = CUT
        if answer == HELD:
            self._held.append(lambda: self._finish(request, kind, rest, asked))
            return NOT_DONE_YET
        if isinstance(answer, str):
            return self._misbehave(request, answer)
        return self._send(request, answer or getattr(self, f"_{kind}")(rest, asked))

    def release(self) -> None:
        """Those that are held get the right answer now, if they still want it."""
        held, self._held = self._held, []
        for finish in held:
            finish()

    def _finish(self, request: Any, kind: str, rest: str, asked: Asked) -> None:
        if request.channel is not None:
            request.write(self._send(request, getattr(self, f"_{kind}")(rest, asked)))
            request.finish()

    def _send(self, request: Any, said: Says) -> bytes:
        request.setResponseCode(said.status)
        if request.method != b"GET":
            self._count += 1
            self._nonces.add(f"nonce-{self._count}")
            request.setHeader("Replay-Nonce", f"nonce-{self._count}")
        for name, value in said.headers.items():
            request.setHeader(name, value)
        return said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()

    def _misbehave(self, request: Any, temper: str) -> Any:
        if temper == CUT:
            request.channel.transport.abortConnection()
        elif temper == HUGE:
            return b" " * (2 << 20)
        elif temper in (HALF, ENDLESS):
            request.setHeader("Content-Length", "100")
            request.write(b"{")
            if temper == HALF:
                request.channel.transport.transport.loseConnection()
        return NOT_DONE_YET

    def _directory(self, rest: str, asked: Asked) -> Says:
        places = {
            "newNonce": "nonce",
            "newAccount": "account",
            "newOrder": "order",
            "revokeCert": "revoke",
            "keyChange": "keychange",
        }
        if self.renewal is not None:
            places["renewalInfo"] = "renewal"
        meta = {"profiles": self.profiles, "termsOfService": "https://ca.test/terms"}
        return Says(200, {key: f"{self.base}/{path}" for key, path in places.items()} | {"meta": meta})

    def _nonce(self, rest: str, asked: Asked) -> Says:
        return Says(200, b"")

    def _account(self, rest: str, asked: Asked) -> Says:
        if rest:
            own = next(one for one in self._accounts.values() if one["url"].endswith(f"/{rest}"))
            own["contact"] = asked.payload["contact"]
            return Says(200, {"status": "valid"})
        key = json.dumps(asked.protected["jwk"], sort_keys=True)
        known = self._accounts.get(key)
        if known is None and asked.payload.get("onlyReturnExisting"):
            return problem("accountDoesNotExist")
        status = 200
        if known is None:
            status = 201
            url = f"{self.base}/account/{len(self._accounts) + 1}"
            known = self._accounts[key] = {"url": url, "contact": asked.payload.get("contact", [])}
        return Says(status, {"status": "valid", "contact": known["contact"]}, {"Location": known["url"]})

    def forget_accounts(self) -> None:
        self._accounts.clear()

    def _order(self, rest: str, asked: Asked) -> Says:
        if rest:
            order = self._orders[int(rest)]
            proved = all(self._authorizations[at]["status"] == "valid" for at in order["at"])
            if order["status"] == "pending" and proved:
                order["status"] = "ready"
            if order["status"] == "processing" and not self._in_vain(f"order {rest}"):
                order["status"] = "valid"
        else:
            first = len(self._authorizations)
            for identifier in asked.payload["identifiers"]:
                name, wildcard = identifier["value"].removeprefix("*."), identifier["value"].startswith("*.")
                self._authorizations.append(
                    {"identifier": {**identifier, "value": name}, "status": "pending", "wildcard": wildcard}
                )
            rest = str(len(self._orders))
            order = {"status": "pending", "at": list(range(first, len(self._authorizations)))}
            self._orders.append(order)
            return self._shown(rest, 201)
        return self._shown(rest, 200)

    def _shown(self, number: str, status: int) -> Says:
        order = self._orders[int(number)]
        body = {
            "status": order["status"],
            "authorizations": [f"{self.base}/authorization/{at}" for at in order["at"]],
            "finalize": f"{self.base}/finalize/{number}",
        }
        if order["status"] == "valid":
            body["certificate"] = f"{self.base}/certificate/{number}"
        return Says(status, body, {"Location": f"{self.base}/order/{number}", **self._pace()})

    def _pace(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": self.retry_after}

    def _authorization(self, rest: str, asked: Asked) -> Says:
        one = self._authorizations[int(rest)]
        if one["status"] == "processing" and not self._in_vain(f"authorization {rest}"):
            one["status"] = "valid"
        kinds = ("dns-01",) if one["wildcard"] else ("http-01", "dns-01", "tls-alpn-01")
        challenges = [
            {"type": kind, "status": "pending", "token": f"token{rest}", "url": f"{self.base}/challenge/{rest}"}
            for kind in kinds
        ]
        shown = {**one, "status": "pending" if one["status"] == "processing" else one["status"]}
        return Says(200, {**shown, "challenges": challenges}, self._pace())

    def _challenge(self, rest: str, asked: Asked) -> Says:
        self._authorizations[int(rest)]["status"] = "processing"
        return Says(200, {"status": "processing"})

    def _in_vain(self, what: str) -> bool:
        times = self._asked_in_vain[what] = self._asked_in_vain.get(what, 0) + 1
        return times <= self.pending

    def _finalize(self, rest: str, asked: Asked) -> Says:
        order = self._orders[int(rest)]
        if order["status"] != "ready":
            return problem("orderNotReady", f"it is {order['status']}", 403)
        request = x509.load_der_x509_csr(_decoded(asked.payload["csr"]))
        order["chain"] = self.authority.signed(request, days=self.days)
        order["status"] = "processing"
        return self._shown(rest, 200)

    def _certificate(self, rest: str, asked: Asked) -> Says:
        return Says(200, self._orders[int(rest)]["chain"], {"Content-Type": "application/pem-certificate-chain"})

    def _revoke(self, rest: str, asked: Asked) -> Says:
        return Says(200, b"")

    def _renewal(self, rest: str, asked: Asked) -> Says:
        return Says(200, self.renewal, self._pace())


class _Everything(Resource):
    isLeaf = True

    def __init__(self, ca: AcmeCa) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ca = ca

    def render(self, request: Request) -> Any:
        return self._ca.render(request)


class _Behind(Factory):
    """Not the site itself, which would choose protocols (ALPN) in a context that is in use."""

    noisy = False

    def __init__(self, site: Site) -> None:
        self._site = site

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return self._site.buildProtocol(addr)


@implementer(IOpenSSLServerConnectionCreator)
class _Sessions:
    def __init__(self, context: SSL.Context) -> None:
        self._context = context
        self.count = 0

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        self.count += 1
        return SSL.Connection(self._context, None)


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
