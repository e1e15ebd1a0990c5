"""All of it for one mail process: sessions are seen, counted, and told of, as long as a rule sends to the world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.config.mail import Email
from dcrouter.config.rules import Mta
from dcrouter.mail.delivery.policy.fetch import Https
from dcrouter.mail.ledger import Ledger
from dcrouter.mail.message import Message
from dcrouter.mail.pipeline.rules import Rules
from dcrouter.mail.tlsreports.counts import Counts
from dcrouter.mail.tlsreports.daily import Daily
from dcrouter.mail.tlsreports.observer import Observer
from dcrouter.net.resolver import Resolver
from dcrouter.wire import mtasts


class TlsReports:
    """`now`: UTC epoch seconds. `held`: as of Observer; `seen` and `unfetched` likewise."""

    def __init__(
        self,
        ledger: Ledger,
        resolver: Resolver,
        https: Https,
        reactor: Any,
        now: Callable[[], float],
        held: Callable[[str], mtasts.Policy | None],
    ) -> None:
        self._counts = Counts(ledger, now)
        self._resolver = resolver
        self._https = https
        self._reactor = reactor
        self._now = now
        self._daily: Daily | None = None
        observer = Observer(resolver, self._counts, held)
        self.seen, self.unfetched = observer.seen, observer.unfetched

    def start(
        self, email: Email, rules: Rules, next_id: Callable[[], int], keep: Callable[[Message], Deferred[None]]
    ) -> None:
        """`next_id` numbers messages, `keep` queues one. Again after a reload, with what holds from then on."""
        if self._daily is not None:
            self._daily.reload(email, rules)
        elif any(isinstance(rule.action, Mta) for rule in email.rules):
            self._daily = Daily(self._counts, self._resolver, self._https, self._reactor, self._now, next_id, keep)
            self._daily.start(email, rules)

    def stop(self) -> None:
        """Tells no more."""
        if self._daily is not None:
            self._daily.stop()
