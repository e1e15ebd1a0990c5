"""Who we are to a CA: a key, the account that it leads to, and requests in its name (RFC 8555 section 7.3).

1. The account of the key is looked up first (7.3.1), for the key of an external account may be good for one use only;
   where there is none it is made, with the CA's terms agreed to.
2. One that is known under other addresses than `email` is told (7.3.2).
3. A CA that has forgotten the account gets it anew, once, within the request that showed it.
4. The account may get another key (7.3.5). Whether it has it, where the answer to that was lost, is found out by
   asking: where the key in use has no account, and the next one has, that is the one.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.logger import Logger

from dcrouter.errors import AcmeError, AcmeUnreachable
from dcrouter.tls.acme.answers import Answer
from dcrouter.tls.acme.client import Client
from dcrouter.tls.acme.external import ExternalAccount
from dcrouter.tls.acme.jws import AccountKey, Signer
from dcrouter.tls.acme.waiting import Shared

_log = Logger()


class KeyChange(Protocol):
    """Where the next key of an account is kept; AcmeError where the disk fails."""

    def next(self) -> AccountKey | None:
        """None: there is none."""

    def done(self) -> None:
        """The account belongs to the next key, which is the one in use from now on."""


class Account:
    """`signer`: of the account's key; `change`: None where it never gets another."""

    def __init__(
        self,
        client: Client,
        key: AccountKey,
        *,
        email: str | None,
        external_account: ExternalAccount | None,
        change: KeyChange | None = None,
    ) -> None:
        self._change = change
        self.signer = Signer(key)
        self._client = client
        self._contact = [] if email is None else [f"mailto:{email}"]
        self._external = external_account
        self._url: str | None = None
        self._registered = Shared(self._find_or_make)

    async def register(self) -> str:
        """The account's URL; asks nobody where it is known."""
        return self._url or await self._registered.get()

    async def post(self, url: str, payload: Any) -> Answer:
        """In the account's name; `payload` None: POST-as-GET."""
        account = await self.register()
        try:
            return await self._client.post(url, payload, self.signer, account)
        except AcmeError as error:
            if error.type != "accountDoesNotExist":
                raise
        if self._url == account:
            self._url = None
        return await self._client.post(url, payload, self.signer, await self.register())

    async def change_key(self) -> None:
        """The account belongs to the next key from now on, and the old one leads nowhere (7.3.5)."""
        change = self._change
        key = change.next() if change is not None else None
        if change is None or key is None:
            raise AcmeError("there is no key that the account could have next")
        account = await self.register()
        directory = await self._client.directory()
        if directory.key_change is None:
            raise AcmeError("the CA offers no change of an account's key")
        signer = Signer(key)
        if signer.thumbprint == self.signer.thumbprint:  # it has it already, and perhaps that could not be kept
            if change.next() is not None:
                change.done()
            return
        payload = {"account": account, "oldKey": self.signer.jwk}
        inner = signer.sign({"jwk": signer.jwk, "url": directory.key_change}, payload)
        try:
            await self._client.post(directory.key_change, inner, self.signer, account)
        except BaseException:
            self._url = None  # which key it has is asked before it is used again
            raise
        self._changed(signer)

    def _changed(self, signer: Signer) -> None:
        assert self._change is not None
        self.signer = signer
        self._change.done()

    async def _find_or_make(self) -> str:
        url = await self._find(self.signer)
        key = self._change.next() if url is None and self._change is not None else None
        if key is not None and (url := await self._find(signer := Signer(key))) is not None:
            self._changed(signer)
        self._url = url or await self._make()
        return self._url

    async def _find(self, signer: Signer) -> str | None:
        directory = await self._client.directory()
        try:
            answer = await self._client.post(directory.new_account, {"onlyReturnExisting": True}, signer)
        except AcmeError as error:
            if error.type == "accountDoesNotExist":
                return None
            raise
        url, fields = answer.made(), answer.fields()
        known = list(fields.texts("contact")) if "contact" in fields else []
        if self._contact and known != self._contact:
            try:
                await self._client.post(url, {"contact": self._contact}, signer, url)
            except AcmeUnreachable:
                raise
            except AcmeError as error:  # no reason to be without certificates
                _log.warn("the CA does not take the new contact of its account: {cause}", cause=str(error))
        return url

    async def _make(self) -> str:
        directory = await self._client.directory()
        payload: dict[str, Any] = {"termsOfServiceAgreed": True}
        if self._contact:
            payload["contact"] = self._contact
        if self._external is not None:
            payload["externalAccountBinding"] = self._external.binding(directory.new_account, self.signer.jwk)
        elif directory.external_account_required:
            raise AcmeError(
                "the CA wants an external account (certificates.acme.external_account)", type="externalAccountRequired"
            )
        answer = await self._client.post(directory.new_account, payload, self.signer)
        return answer.made()
