"""What is known of the world out there, apart from how it is reached: policies of domains, reports that they want,
addresses that have failed. All of it asks DNS and HTTPS by one resolver, and remembers in one ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.config.mail import Email
from dcrouter.config.rules import Mta
from dcrouter.events import MailReturned
from dcrouter.mail.bounces.marks import Marks
from dcrouter.mail.bounces.returns import Read, Returns
from dcrouter.mail.bounces.suppression import Suppression
from dcrouter.mail.delivery.exchange import Finder
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Failed, Outcome
from dcrouter.mail.delivery.policy.fetch import HTTPS_PORT, Https
from dcrouter.mail.delivery.policy.mtasts import MtaSts
from dcrouter.mail.delivery.policy.policies import Policies
from dcrouter.mail.envelope import Recipient
from dcrouter.mail.ledger import Ledger
from dcrouter.mail.message import Message
from dcrouter.mail.pipeline.rules import Rules
from dcrouter.mail.tlsreports.reports import TlsReports
from dcrouter.net.resolver import Resolver


class World:
    """`directory`: of the mail half; `now`: UTC epoch seconds; `in_thread` runs what waits for the disk; `read` gives
    the first octets of a queued message; `told` hears of mail that has come back.
    """

    def __init__(
        self,
        email: Email,
        directory: Path,
        resolver: Resolver,
        ledger: Ledger,
        reactor: Any,
        now: Callable[[], float],
        in_thread: Callable[..., Deferred[Any]],
        read: Read,
        told: Callable[[MailReturned], None] | None,
        https_port: int = HTTPS_PORT,
    ) -> None:
        https = Https(reactor, resolver, port=https_port)
        self.suppression = Suppression(ledger, now)
        self.suppression.reload(email)
        self.returns = Returns(Marks(directory), self.suppression, read, reactor, now, told)
        self._resolver = resolver
        self._sts = MtaSts(directory, resolver, https.get, now, in_thread, self._unfetched)
        self._tls_reports = TlsReports(ledger, resolver, https, reactor, now, self._sts.held)
        self.seen = self._tls_reports.seen

    def start(
        self, email: Email, rules: Rules, next_id: Callable[[], int], keep: Callable[[Message], Deferred[None]]
    ) -> None:
        """Takes up what an earlier run has left, which blocks; `next_id` and `keep` number and queue reports."""
        self.suppression.open()
        self.reload(email, rules, next_id, keep)

    def reload(
        self, email: Email, rules: Rules, next_id: Callable[[], int], keep: Callable[[Message], Deferred[None]]
    ) -> None:
        """As another configuration says, from now on."""
        self._rules = rules
        self.suppression.reload(email)
        self.returns.reload(email)
        self._tls_reports.start(email, rules, next_id, keep)

    def stop(self) -> None:
        """Sends no more reports."""
        self._tls_reports.stop()

    def secured(self, exchangers: Finder, obeyed: Callable[[str, str], tuple[bool, bool]]) -> Policies:
        """The exchangers of domains, with what sessions with them must have; `obeyed` as of Policies."""
        return Policies(exchangers, self._resolver, self._sts, obeyed)

    def ended(self, recipient: Recipient, outcome: Outcome, word: str) -> None:
        """An attempt at a recipient has come to `word`."""
        rule = self._rules.named(recipient.rule)
        if rule is None or not isinstance(rule.action, Mta):
            return
        if word == "delivered":
            self.suppression.delivered(recipient.address)
        elif word == "failed" and isinstance(outcome, Later | Failed) and outcome.target:
            self.suppression.failed(recipient.address, outcome.reply)

    def _unfetched(self, *problem: Any) -> None:
        self._tls_reports.unfetched(*problem)
