"""What the operator asks about certificates, and has done with them. Answers are JSON-ready, as of operations.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from dcrouter.control.certificates import CertificateWatch
from dcrouter.tls.listed import Listed
from dcrouter.tls.names import wildcard_of

NOT_FOUND, CONFLICT = 404, 409

Answer = dict[str, Any]


class Issuer(Protocol):
    """Who brings certificates from elsewhere. `listed`: what it has brought, and what it is to bring."""

    def listed(self, only: str | None = None) -> Iterable[Listed]: ...

    def renew(self, name: str) -> Deferred[Answer]:
        """Begins at once, whatever was waited for."""

    def revoke(self, name: str) -> Deferred[Answer]:
        """Fires when the authority has done it."""

    def change_account_keys(self) -> Deferred[Answer]:
        """Of the accounts in whose name it asks."""

    def order(self, name: str) -> Answer | None:
        """How far the one is that `renew`, or `revoke`, has begun."""


class Certs:
    """Of one parent. `issuer`: None where there is none."""

    def __init__(self, watch: CertificateWatch, issuer: Issuer | None = None) -> None:
        self._watch = watch
        self._issuer = issuer

    def list(self) -> Answer:
        """Every certificate that is in use or wanted, in the order in which they are asked for."""
        return {"certificates": [one.to_plain() for one in self._all()]}

    def renew(self, name: str) -> Deferred[Answer]:
        """Has the certificate of a name made anew now: `renewed` where that is done, `ordered` where `order` tells."""
        found = self._find(name)
        if found is None:
            return succeed(self._unknown(name))
        if found.source == "acme" and self._issuer is not None:
            return self._issuer.renew(name)
        if found.source == "file":
            return succeed(_refused(f"{name}: {found.file} is yours to replace; it is used as soon as it is"))
        self._watch.renew(name)
        return succeed({"renewed": [name]})

    def revoke(self, name: str) -> Deferred[Answer]:
        """Has the certificate of a name declared invalid by who issued it; `ordered`: another one in its place."""
        found = self._find(name)
        if found is None:
            return succeed(self._unknown(name))
        if found.source == "acme" and self._issuer is not None:
            return self._issuer.revoke(name)
        if found.source == "file":
            return succeed(_refused(f"{name}: {found.file} can be revoked where it was issued, and not here"))
        return succeed(
            _refused(f"{name}: nobody asks the internal CA what it has revoked; `certs renew` makes another key")
        )

    def order(self, name: str) -> Answer:
        """How far the order is that was asked for: control/issuing/followed."""
        found = self._issuer.order(name) if self._issuer is not None else None
        return {"error": f"nobody has asked for an order of {name}", "status": NOT_FOUND} if found is None else found

    def change_account_keys(self) -> Deferred[Answer]:
        """Give our accounts with authorities other keys: `changed` tells with whom."""
        return succeed({"changed": []}) if self._issuer is None else self._issuer.change_account_keys()

    def records(self) -> Answer:
        """The DNS records that there should be of our certificates."""
        return {"records": self._watch.dane.records()}

    def _all(self, name: str | None = None) -> Iterable[Listed]:
        order = {"file": 0, "acme": 1, "internal": 2}
        brought = self._issuer.listed(name) if self._issuer is not None else ()
        return sorted((*self._watch.store.listed(name), *brought), key=lambda one: order[one.source])

    def _find(self, name: str) -> Listed | None:
        """Of those that a client is shown before others, the first."""
        return next(iter(self._all(name.lower())), None)

    def _unknown(self, name: str) -> Answer:
        wildcard = wildcard_of(name.lower())
        serves = f" itself, {wildcard} serves it" if self._find(wildcard) is not None else ""
        return {"error": f"there is no certificate for {name}{serves}", "status": NOT_FOUND}


def _refused(why: str) -> Answer:
    return {"error": why, "status": CONFLICT}
