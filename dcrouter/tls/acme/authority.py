"""One directory with one account: the door to everything in this folder.

Each coroutine may be cancelled at any time (`Deferred.fromCoroutine(...).cancel()`): challenges that were presented are
cleaned up before its Deferred fires. All raise AcmeError, and AcmeUnreachable where the CA is not to be had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred

from dcrouter.errors import AcmeError
from dcrouter.tls.acme.account import Account, KeyChange
from dcrouter.tls.acme.certificate import certificate_id
from dcrouter.tls.acme.challenges import Solver
from dcrouter.tls.acme.client import Client
from dcrouter.tls.acme.external import ExternalAccount
from dcrouter.tls.acme.jws import AccountKey, b64
from dcrouter.tls.acme.order import Order
from dcrouter.tls.acme.renewal import RenewalInfo
from dcrouter.tls.acme.waiting import Patience
from dcrouter.tls.credential import PrivateKey


class Authority:
    """`url`: of the directory. `trust`: PEM, instead of the system's authorities.

    Nobody is asked anything before the first call; `close` it in the end. ValueError for a key that cannot
    sign, TlsError where `trust` holds no certificate.
    """

    def __init__(
        self,
        reactor: Any,
        url: str,
        account_key: AccountKey,
        *,
        email: str | None = None,
        trust: bytes | None = None,
        external_account: ExternalAccount | None = None,
        profile: str | None = None,
        change: KeyChange | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.url = url
        self._reactor = reactor
        self._patience = patience or Patience()
        self._profile = profile
        self._client = Client(reactor, self.url, trust, self._patience)
        self._account = Account(
            self._client, account_key, email=email, external_account=external_account, change=change
        )

    async def register(self) -> str:
        """The account's URL; the account is made where there is none. Called by itself when needed."""
        return await self._account.register()

    async def change_key(self) -> None:
        """The account has the next key from now on, which `change` keeps. No order may be under way: proofs are of the
        key that was in use when it began.
        """
        await self._account.change_key()

    async def issue(
        self,
        names: tuple[str, ...],
        key: PrivateKey,
        solvers: Mapping[str, Solver],
        *,
        replaces: str | None = None,
        told: Callable[[str], None] = lambda words: None,
    ) -> bytes:
        """A certificate of `key` for `names`: its chain as PEM, leaf first.

        `names`: A-labels in lower case, wildcards, addresses. `solvers`: kind of challenge -> who does it, the best
        first. `replaces`: `certificate_id` of the one that this renews. `told`: gets a few words at each step.
        """
        directory = await self._client.directory()
        if self._profile is not None and self._profile not in directory.profiles:
            offered = ", ".join(directory.profiles) or "none"
            raise AcmeError(f"the CA has no profile {self._profile!r}, it offers {offered}", type="invalidProfile")
        order = Order(self._reactor, self._account, directory, self._patience, told)
        return await order.run(names, key, solvers, self._profile, replaces)

    async def renewal_info(self, leaf: x509.Certificate) -> RenewalInfo | None:
        """When to renew it; None where the CA does not say (no ARI), or cannot be asked about this one."""
        url, name = (await self._client.directory()).renewal_info, certificate_id(leaf)
        if url is None or name is None:
            return None
        return RenewalInfo.of(await self._client.get(f"{url.rstrip('/')}/{quote(name)}"))

    async def revoke(self, leaf: x509.Certificate, reason: int = 0) -> None:
        """`reason`: a number of RFC 5280 section 5.3.1. One that is revoked already is no error."""
        url = (await self._client.directory()).revoke
        if url is None:
            raise AcmeError("the CA offers no revocation")
        try:
            payload = {"certificate": b64(leaf.public_bytes(Encoding.DER)), "reason": reason}
            await self._account.post(url, payload)
        except AcmeError as error:
            if error.type != "alreadyRevoked":
                raise

    def close(self) -> Deferred[None]:
        """Its connections; fires when they are closed. What still runs is to be cancelled before."""
        return self._client.close()
