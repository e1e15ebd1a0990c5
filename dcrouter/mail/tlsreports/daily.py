"""Once a day, some time after midnight UTC: each domain that wants it is told of the day that is over.

By mail through our own rules and queue, or by HTTPS; where neither works it is tried again every hour, for a few days.
RFC 8460 section 5.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dcrouter.config.mail import Email
from dcrouter.errors import DcrouterError
from dcrouter.mail.delivery.policy.fetch import Https
from dcrouter.mail.envelope import Envelope, Recipient, Terms
from dcrouter.mail.message import Message
from dcrouter.mail.pipeline.rules import Rules
from dcrouter.mail.tlsreports.counts import DAY, Counts, Day
from dcrouter.mail.tlsreports.observer import wanted_at
from dcrouter.net.resolver import Resolver
from dcrouter.wire.tlsrpt import Section, file_name, mailbox_of, packed, report

MEDIA_TYPE = "application/tlsrpt+gzip"
SPREAD = 4 * 3600.0
"""Seconds after midnight within which reports begin, so that not everybody reports at once (section 4.1)."""
AGAIN = 3600.0
SOON = 600.0
"""Seconds until what could not be told is tried again, and after a start until what an earlier run has left is."""
WITHIN = 60.0
"""Seconds for one HTTPS exchange."""


class Daily:
    """`next_id` numbers messages; `keep` queues one; `now`: UTC epoch seconds."""

    _log = Logger()

    def __init__(
        self,
        counts: Counts,
        resolver: Resolver,
        https: Https,
        reactor: Any,
        now: Callable[[], float],
        next_id: Callable[[], int],
        keep: Callable[[Message], Deferred[None]],
    ) -> None:
        self._counts = counts
        self._resolver = resolver
        self._https = https
        self._reactor = reactor
        self._now = now
        self._next_id = next_id
        self._keep = keep
        self._due: IDelayedCall | None = None
        self._at = 0.0
        self._telling: Deferred[None] | None = None

    def start(self, email: Email, rules: Rules) -> None:
        self.reload(email, rules)
        self._later(random.uniform(0, SOON) if self._counts.over() else self._until_tomorrow())

    def reload(self, email: Email, rules: Rules) -> None:
        """As another configuration says, from the next report on."""
        self._hostname = email.hostname
        self._contact = email.postmaster or f"postmaster@{email.hostname}"
        self._rules = rules

    def stop(self) -> None:
        """Tells no more; what is not told yet is after the next start."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._telling is not None:
            self._telling.cancel()

    def _until_tomorrow(self) -> float:
        return DAY - self._now() % DAY + random.uniform(0, SPREAD)

    def _later(self, seconds: float) -> None:
        self._at = self._now() + seconds
        self._sleep()

    def _sleep(self) -> None:
        """A clock that was set is noticed within an hour."""
        left = self._at - self._now()
        if left > DAY + SPREAD:
            left = self._until_tomorrow()
            self._at = self._now() + left
        self._due = self._reactor.callLater(min(max(left, 0.0), AGAIN), self._look)

    def _look(self) -> None:
        if self._now() < self._at:
            self._sleep()
        else:
            self._begin()

    def _begin(self) -> None:
        self._due = None
        telling = self._telling = Deferred.fromCoroutine(self.tell())
        telling.addErrback(self._broken).addBoth(self._ended)

    def _broken(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("TLS reports cannot be sent", failure)

    def _ended(self, _: object) -> None:
        stopped = self._telling is None
        self._telling = None
        if not stopped:
            self._later(AGAIN if self._counts.over() else self._until_tomorrow())

    async def tell(self) -> None:
        """Everybody of every day that is over, one after the other."""
        for day in self._counts.over():
            addresses = await wanted_at(self._resolver, day.domain)
            if addresses and not await self._told(day, addresses):
                continue
            self._counts.forget(day)

    async def _told(self, day: Day, addresses: tuple[str, ...]) -> bool:
        """Whether somebody has it."""
        domain, sections = day.domain, day.sections
        begin, end = day.day * DAY, (day.day + 1) * DAY - 1
        number = self._next_id()
        told = packed(
            report(
                id=f"{number:x}@{self._hostname}",
                organization=self._hostname,
                contact=self._contact,
                begin=begin,
                end=end,
                sections=sections,
            )
        )
        name = file_name(self._hostname, domain, begin, end)
        taken = False
        for address in addresses:
            mailbox = mailbox_of(address)
            try:
                if mailbox is None:
                    await self._https.post(address, told, MEDIA_TYPE, within=WITHIN)
                else:
                    await self._mail(number, mailbox, domain, name, told, sections)
            except DcrouterError as error:
                self._log.info("no TLS report to {address}: {reason}", address=address, reason=str(error))
            else:
                taken = True
        return taken

    async def _mail(
        self, number: int, mailbox: str, domain: str, name: str, told: bytes, sections: tuple[Section, ...]
    ) -> None:
        decision = self._rules.decide_own(mailbox)
        if decision.rule is None or decision.refusal is not None:
            raise DcrouterError("no rule takes mail for it")
        octets = self._letter(number, mailbox, domain, name, told, sections)
        recipient = Recipient(number=0, address=decision.address, rule=decision.rule.name)
        await self._keep(
            Message(
                id=self._next_id(),
                envelope=Envelope(
                    session="tls-report", sender="", recipients=(recipient,), terms=Terms(tls_optional=True)
                ),
                received=self._now(),
                size=len(octets),
                eightbit=False,
                octets=octets,
            )
        )

    def _letter(
        self, number: int, mailbox: str, domain: str, name: str, told: bytes, sections: tuple[Section, ...]
    ) -> bytes:
        """Section 5.3; `TLS-Required: No` (RFC 8689 5), because TLS may be what is broken."""
        letter = EmailMessage(policy=SMTP)
        letter["From"] = f"postmaster@{self._hostname}"
        letter["To"] = mailbox
        letter["Date"] = formatdate(self._now())
        letter["Message-ID"] = f"<{number:x}.tlsrpt@{self._hostname}>"
        letter["Subject"] = (
            f"Report Domain: {domain} Submitter: {self._hostname} Report-ID: <{number:x}@{self._hostname}>"
        )
        letter["TLS-Report-Domain"] = domain
        letter["TLS-Report-Submitter"] = self._hostname
        letter["TLS-Required"] = "No"
        letter["Auto-Submitted"] = "auto-generated"
        good = sum(section.successful for section in sections)
        bad = sum(count for section in sections for _, count in section.failures)
        letter.set_content(
            f"This is an aggregate TLS report of {self._hostname} for {domain} (RFC 8460).\n"
            f"Sessions: {good} with TLS as wanted, {bad} failed.\n"
        )
        letter.add_attachment(told, "application", "tlsrpt+gzip", filename=name)
        letter.replace_header("Content-Type", "multipart/report")
        letter.set_param("report-type", "tlsrpt")
        letter.set_boundary(f"=_{number:x}.tlsrpt")
        return letter.as_bytes()
