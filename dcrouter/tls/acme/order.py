"""Names in, a certificate out (RFC 8555 sections 7.4 and 7.4.2).

1. The order; one that replaces a certificate says so (RFC 9773 section 5), and is made without saying so where the CA
   does not take it.
2. Every name is proved, some at once. One that cannot be proved does not stop the others: what is proved now is proved
   for the next order too, and the error tells all that were not.
3. The order is finalized, the chain fetched and checked. Answers that are lost on the way are asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dcrouter.config.names import is_address
from dcrouter.errors import AcmeError, NameProblem
from dcrouter.tls.acme.account import Account
from dcrouter.tls.acme.answers import Answer, Fields
from dcrouter.tls.acme.authorization import NotProved, Prover
from dcrouter.tls.acme.certificate import checked_chain, signing_request
from dcrouter.tls.acme.challenges import Solver
from dcrouter.tls.acme.directory import Directory
from dcrouter.tls.acme.jws import b64
from dcrouter.tls.acme.polling import fetch, poll
from dcrouter.tls.acme.problems import detail_of, names_of, sentence, type_of
from dcrouter.tls.acme.waiting import Patience, for_each
from dcrouter.tls.credential import PrivateKey

AT_ONCE = 16
"""Names that are proved together."""

_NOT_REPLACED = ("alreadyReplaced", "malformed", "conflict")
"""What CAs say of a `replaces` that they do not take: RFC 9773 has the first, Boulder also says the others."""


class Order:
    """One order of one account."""

    def __init__(
        self,
        reactor: Any,
        account: Account,
        directory: Directory,
        patience: Patience,
        told: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._account = account
        self._directory = directory
        self._patience = patience
        self._told = told

    async def run(
        self,
        names: Sequence[str],
        key: PrivateKey,
        solvers: Mapping[str, Solver],
        profile: str | None,
        replaces: str | None,
    ) -> bytes:
        """The chain, PEM, leaf first; AcmeError."""
        made = await self._make(names, profile, replaces)
        url, fields = made.made(), made.fields()
        self._told(f"order {url}")
        if fields.text("status") == "pending":
            await self._prove(fields.texts("authorizations"), solvers)
            fields = await self._settled(url, ("pending",), None)
        if fields.text("status") == "ready":
            self._told("the CA is asked for the certificate")
            made = await self._finalize(url, fields.url("finalize"), b64(signing_request(names, key)))
            fields = made.fields()
        if fields.text("status") != "valid":
            fields = await self._settled(url, ("pending", "ready", "processing"), made.retry_after)
        chain = await fetch(self._reactor, self._account, fields.url("certificate"), self._patience)
        return checked_chain(chain.body, names, key)

    async def _make(self, names: Sequence[str], profile: str | None, replaces: str | None) -> Answer:
        identifiers = [{"type": "ip" if is_address(name) else "dns", "value": name} for name in names]
        payload: dict[str, Any] = {"identifiers": identifiers}
        if profile is not None:
            payload["profile"] = profile
        if replaces is not None and self._directory.renewal_info is not None:
            try:
                return await self._account.post(self._directory.new_order, {**payload, "replaces": replaces})
            except AcmeError as error:
                if error.type not in _NOT_REPLACED:
                    raise
                self._told(f"the CA does not take it as a renewal: {error.detail}")
        return await self._account.post(self._directory.new_order, payload)

    async def _prove(self, authorizations: Sequence[str], solvers: Mapping[str, Solver]) -> None:
        prover = Prover(self._reactor, self._account, solvers, self._patience, self._told)
        problems: list[NameProblem] = []

        async def prove(url: str) -> None:
            try:
                await prover.prove(url)
            except NotProved as error:
                problems.extend(error.names)

        await for_each(authorizations, prove, AT_ONCE)
        if problems:
            raise AcmeError(
                "; ".join(f"{one.name}: {sentence(one.type, one.detail)}" for one in problems),
                type=problems[0].type,
                detail=problems[0].detail,
                names=problems,
            )

    async def _finalize(self, url: str, place: str, csr: str) -> Answer:
        """The order, which may have been finalized though the answer was lost: certificates are counted, and not to be
        ordered twice.
        """
        try:
            return await self._account.post(place, {"csr": csr})
        except AcmeError as error:
            if not (error.temporary or error.type == "orderNotReady") or error.rate_limited:
                raise
            order = await fetch(self._reactor, self._account, url, self._patience)
            if order.fields().text("status") not in ("processing", "valid"):
                raise
            return order

    async def _settled(self, url: str, passing: Sequence[str], first: float | None) -> Fields:
        """The order, once its status is none of `passing`; AcmeError where it has failed."""
        fields = await poll(
            self._reactor,
            self._account,
            url,
            lambda fields: fields.text("status") not in passing,
            self._patience.issuance,
            self._patience,
            first,
        )
        if fields is None:
            raise AcmeError(f"{url}: the CA has not made the certificate within {self._patience.issuance:g} s")
        if fields.text("status") == "invalid":
            document = fields.object("error").plain()
            raise AcmeError(
                f"the CA has given the order up: {sentence(type_of(document), detail_of(document))}",
                type=type_of(document),
                detail=detail_of(document),
                names=names_of(document),
            )
        return fields
