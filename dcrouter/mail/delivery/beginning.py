"""How connections to one next hop begin: as whom, in TLS, by STARTTLS, or in clear.

Where TLS is only welcome and fails, the following connections are made in clear, for a while.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory

from dcrouter.mail.delivery.client import Connection, Owner
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.mail.delivery.patience import Patience
from dcrouter.mail.delivery.security import Contexts
from dcrouter.wire.smtp.client import Client, Credentials

IN_CLEAR = 600.0
"""Seconds for which a next hop with which TLS has failed is spoken to without."""


class Beginning:
    """`name`: ours, for EHLO."""

    def __init__(self, hop: NextHop, name: str, contexts: Contexts, reactor: IReactorTime) -> None:
        self._hop = hop
        self._name = name
        self._contexts = contexts
        self._reactor = reactor
        self._credentials = (
            Credentials(user=hop.auth.user, password=hop.auth.password) if hop.auth is not None else None
        )
        self._clear_until = 0.0

    @property
    def in_clear(self) -> bool:
        """Whether TLS has failed just now."""
        return self._reactor.seconds() < self._clear_until

    def falls_back(self) -> bool:
        """TLS has failed: whether the next connections are made without."""
        hop = self._hop
        may = hop.tls == "opportunistic" and hop.auth is None and not hop.implicit_tls
        if may:
            self._clear_until = self._reactor.seconds() + IN_CLEAR
        return may

    def factory(self, owner: Owner, patience: Patience) -> Factory[Connection]:
        """Of one connection. Raises TlsError where there is nothing to verify it against."""
        hop = self._hop
        implicit = hop.implicit_tls
        tls = "none" if self.in_clear and not implicit else hop.tls
        session = self._contexts.session(hop) if tls != "none" else None

        def build() -> Connection:
            client = Client(
                self._name,
                lmtp=hop.lmtp,
                tls="none" if implicit else tls,
                encrypted=implicit,
                credentials=self._credentials,
            )
            return Connection(owner, client, hop.target, session, self._reactor, patience, implicit=implicit)

        factory = Factory.forProtocol(build)
        factory.noisy = False
        return factory
