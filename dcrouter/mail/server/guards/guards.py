"""All guards of one mail process, as its configuration says; what they have learnt outlives a reload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.config.mail import Email
from dcrouter.mail.envelope import Client
from dcrouter.mail.ledger import Ledger
from dcrouter.mail.server.guards.dnsbl import Lists, Sum
from dcrouter.mail.server.guards.greylist import Greylisting
from dcrouter.mail.server.guards.limits import RateLimits, Refusal, Tally, Told
from dcrouter.net.resolver import Resolver
from dcrouter.wire.smtp.address import POSTMASTER, split

LONGEST_REPLY = 510
"""Octets of a reply's line without its CRLF, RFC 5321 4.5.3.1.5."""


class Guards:
    """`now`: UTC epoch seconds. `told` hears of alerts."""

    def __init__(
        self, ledger: Ledger, resolver: Resolver, reactor: Any, now: Callable[[], float], told: Told | None = None
    ) -> None:
        self.limits = RateLimits(ledger, reactor.seconds, now, told)
        self._lists = Lists(resolver, reactor)
        self._greylist = Greylisting(ledger, now)
        self._reject_at = 0

    def reload(self, email: Email) -> None:
        """As another configuration says, from the next command of each client on."""
        self.limits.reload(email.rate_limits)
        self._lists.reload(email.dnsbl)
        self._greylist.reload(email.greylist)
        self._reject_at = email.dnsbl_reject_at

    def tally(self, session: str, size: int) -> Tally | None:
        """For a message that begins; None where nothing is guarded."""
        return Tally(session, size) if self.limits else None

    def met(self, client: Client) -> None:
        """A client has said EHLO."""
        if self._lists and _is_stranger(client):
            self._lists.begin(client.address)

    def listed(self, client: Client, address: str) -> Refusal | Deferred[Refusal | None] | None:
        """Why a recipient is refused to a client that is in lists; not postmaster (RFC 5321 4.5.1). It never fails."""
        if not self._lists or not _is_stranger(client) or split(address)[0].lower() == POSTMASTER:
            return None
        found = self._lists.sum(client.address)
        if isinstance(found, Deferred):
            return found.addCallback(self._judged, client)
        return self._judged(found, client)

    def greylisted(self, client: Client, sender: str, address: str) -> Refusal | None:
        """Why a recipient must be asked for again."""
        if not self._greylist or not _is_stranger(client):
            return None
        seconds = self._greylist.wait(client.address, sender, address)
        if not seconds:
            return None
        return Refusal(f"451 4.7.1 Greylisted, come again in {seconds} s\r\n".encode(), "greylist: not known yet")

    def status(self) -> dict[str, int]:
        """Counters since the start."""
        return {"dnsbl_failed": self._lists.failed}

    def _judged(self, found: Sum, client: Client) -> Refusal | None:
        if found.score < self._reject_at:
            return None
        zones = ", ".join(found.zones)
        reply = f"550 5.7.1 Client host [{client.address}] is listed by {zones}"
        return Refusal(f"{reply[:LONGEST_REPLY]}\r\n".encode("ascii", "replace"), f"dnsbl: {found.score} by {zones}")


def _is_stranger(client: Client) -> bool:
    return client.kind == "smtp" and not client.may_relay
