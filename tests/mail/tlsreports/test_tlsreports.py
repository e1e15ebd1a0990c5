"""TLS reports: what is counted, over a restart, and who is told of it."""

from __future__ import annotations

import email
import gzip
import json
from email.policy import default
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import succeed
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource

from dcrouter.config.mail import Email
from dcrouter.config.rules import Deliver, Mta, Rule, RuleMatch
from dcrouter.mail.delivery.nexthop import Dane, NextHop
from dcrouter.mail.delivery.policy.fetch import Https
from dcrouter.mail.delivery.seen import Seen
from dcrouter.mail.ledger import Ledger
from dcrouter.mail.message import Message
from dcrouter.mail.pipeline.rules import Rules
from dcrouter.mail.tlsreports.counts import DAY, Counts
from dcrouter.mail.tlsreports.daily import Daily
from dcrouter.mail.tlsreports.observer import Observer
from dcrouter.net.resolver import Resolver
from dcrouter.tls.dane import Tlsa
from dcrouter.wire import mtasts
from dcrouter.wire.tlsrpt import FailureKind, Policy, Section
from tests.mail.tlsreports.counted import sections
from tests.support.certificates import Authority
from tests.support.facts import until
from tests.support.nameserver import Nameserver
from tests.support.trusted import HttpsHost, trust

HOP = NextHop(host="mx.x.test")
NONE = Policy(type="no-policy-found", domain="x.test")
EMAIL = Email(
    hostname="mail.example.test",
    postmaster="root@local.test",
    rules=(
        Rule(name="local", match=RuleMatch(recipients=("*@local.test",)), action=Deliver(maildir="m/{recipient}")),
        Rule(name="out", match=RuleMatch(clients="may_relay"), action=Mta()),
    ),
)


def in_thread(call: Any, *args: Any) -> Any:
    return succeed(call(*args))


class ReportsCase(TestCase):
    def setUp(self) -> None:
        self.seconds = 20_000.25 * DAY
        self.directory = Path(self.mktemp())
        self.dns = Nameserver(self)
        self.resolver = Resolver(self.dns.config(), reactor, hosts=Path("/nonexistent"))
        self.addCleanup(self.resolver.close)
        self.held: dict[str, mtasts.Policy] = {}
        self.open()

    def open(self) -> None:
        """As at a start."""
        self.ledger = Ledger(self.directory, reactor, self.now, in_thread)
        self.addCleanup(self.ledger.close)
        self.counts = Counts(self.ledger, self.now)
        self.observer = Observer(self.resolver, self.counts, self.held.get)

    def now(self) -> float:
        return self.seconds

    def wants(self, domain: str, *uris: str) -> None:
        self.dns.add(f"_smtp._tls.{domain}", "TXT", f'"v=TLSRPTv1; rua={",".join(uris)}"', ttl=1)


class CountsTests(ReportsCase):
    async def test_only_who_wants_to_know(self) -> None:
        """A domain without a record is not counted."""
        self.wants("x.test", "mailto:a@local.test")
        self.observer.seen(["y.test", "x.test"], Seen(hop=HOP, address="192.0.2.1", ours="192.0.2.9"))
        await until(lambda: sections(self.counts, 20_000, "x.test"))
        self.assertEqual(sections(self.counts, 20_000, "x.test"), (Section(policy=NONE, successful=1),))
        self.assertEqual(sections(self.counts, 20_000, "y.test"), ())

    async def test_policies_and_kinds_apart(self) -> None:
        """RFC 8460 4.4: a section for each policy; failures by kind; over a restart."""
        self.wants("x.test", "mailto:a@local.test")
        records = Dane(records=(Tlsa(3, 1, 1, bytes(32)),), names=("mx.x.test",))
        dane = NextHop(host="mx.x.test", tls="required", dane=records)
        bad = Seen(hop=HOP, address="192.0.2.1", ours="192.0.2.9", failure="starttls-not-supported", reason="no")
        for seen in (Seen(hop=HOP, address="192.0.2.1", ours="192.0.2.9"), bad, bad):
            self.observer.seen(["x.test"], seen)
        self.observer.seen(["x.test"], Seen(hop=dane, address="192.0.2.1", ours="192.0.2.9"))
        self.held["x.test"] = mtasts.Policy(mode="testing", max_age=1, mx=("*.x.test",))
        self.observer.seen(["x.test"], Seen(hop=HOP, address="192.0.2.1", ours="192.0.2.9"))
        self.observer.unfetched("x.test", "sts-policy-fetch-error", "502")
        await until(lambda: len(sections(self.counts, 20_000, "x.test")) == 4)
        self.ledger.close()
        self.open()
        told = {
            section.policy.type: section for section in sections(self.counts, 20_000, "x.test") if section.successful
        }
        kind = FailureKind(
            type="starttls-not-supported", host="mx.x.test", address="192.0.2.1", ours="192.0.2.9", reason="no"
        )
        self.assertEqual(told["no-policy-found"], Section(policy=NONE, successful=1, failures=((kind, 2),)))
        self.assertEqual(told["tlsa"].policy.lines, (f"3 1 1 {'00' * 32}",))
        self.assertEqual(told["sts"].policy.lines, ("version: STSv1", "mode: testing", "mx: *.x.test", "max_age: 1"))

    async def test_a_day_that_is_over(self) -> None:
        """Is told of once; of today nothing is."""
        self.wants("x.test", "mailto:a@local.test")
        self.observer.seen(["x.test"], Seen(hop=HOP, address="", ours=""))
        await until(lambda: sections(self.counts, 20_000, "x.test"))
        self.assertEqual(self.counts.over(), [])
        self.seconds += DAY
        self.assertEqual([one[:2] for one in self.counts.over()], [(20_000, "x.test")])
        self.counts.forget(*self.counts.over())
        self.assertEqual(self.counts.over(), [])


class DailyTests(ReportsCase):
    def setUp(self) -> None:
        super().setUp()
        self.kept: list[Message] = []
        self.host = HttpsHost(self, Authority(), ["reports.x.test"], _Taker())
        self.dns.add("reports.x.test", "A", "127.0.0.1")

    def daily(self) -> Daily:
        numbers = iter(range(1000, 2000))
        https = Https(reactor, self.resolver, port=self.host.port)
        daily = Daily(self.counts, self.resolver, https, reactor, self.now, numbers.__next__, self.keep)
        daily.reload(EMAIL, Rules(EMAIL))
        return daily

    def keep(self, message: Message) -> Any:
        self.kept.append(message)
        return succeed(None)

    async def counted(self, *uris: str) -> None:
        """A session yesterday."""
        self.wants("x.test", *uris)
        self.observer.seen(["x.test"], Seen(hop=HOP, address="192.0.2.1", ours="192.0.2.9"))
        await until(lambda: sections(self.counts, 20_000, "x.test"))
        self.seconds += DAY

    async def test_by_mail(self) -> None:
        """RFC 8460 5.3: one message, null sender, to whom the rules allow; it may go without TLS (RFC 8689 5)."""
        await self.counted("mailto:tls%2Brpt@reports.test")
        await self.daily().tell()
        (message,) = self.kept
        (recipient,) = message.envelope.recipients
        self.assertEqual(
            (message.envelope.sender, recipient.address, recipient.rule), ("", "tls+rpt@reports.test", "out")
        )
        self.assertTrue(message.envelope.terms.tls_optional)
        assert message.octets is not None
        self.assertEqual(message.size, len(message.octets))
        letter: Any = email.message_from_bytes(message.octets, policy=default)
        self.assertEqual(letter.get_content_type(), "multipart/report")
        self.assertEqual(letter.get_param("report-type"), "tlsrpt")
        self.assertEqual((letter["TLS-Report-Domain"], letter["TLS-Report-Submitter"]), ("x.test", "mail.example.test"))
        self.assertEqual(letter["TLS-Required"], "No")
        self.assertRegex(letter["Subject"], "^Report Domain: x.test Submitter: mail.example.test Report-ID: <")
        part = next(letter.iter_attachments())
        self.assertEqual(part.get_content_type(), "application/tlsrpt+gzip")
        begin = 20_000 * DAY
        self.assertEqual(part.get_filename(), f"mail.example.test!x.test!{begin}!{begin + DAY - 1}.json.gz")
        told = json.loads(gzip.decompress(part.get_content()))
        self.assertEqual(told["policies"][0]["summary"]["total-successful-session-count"], 1)
        self.assertEqual(told["contact-info"], "root@local.test")
        self.assertNotIn(b"\n", message.octets.replace(b"\r\n", b""))
        self.assertEqual(self.counts.over(), [])

    async def test_by_https(self) -> None:
        """RFC 8460 5.4: posted, gzipped, to a host that proves its name."""
        await self.counted("https://reports.x.test/v1/tlsrpt")
        trust(self, self.host.authority)
        await self.daily().tell()
        ((kind, body),) = self.host.site.taken
        self.assertEqual(kind, b"application/tlsrpt+gzip")
        self.assertEqual(json.loads(gzip.decompress(body))["organization-name"], "mail.example.test")
        self.assertEqual(self.counts.over(), [])

    async def test_what_cannot_be_told_stays(self) -> None:
        """A refusal: tried again, until it is too old; nobody wants it any more: forgotten."""
        await self.counted("https://reports.x.test/v1/tlsrpt")
        trust(self, self.host.authority)
        self.host.site.status = 503
        await self.daily().tell()
        self.assertEqual([one[:2] for one in self.counts.over()], [(20_000, "x.test")])
        self.dns.remove("_smtp._tls.x.test", "TXT")
        self.resolver.close()
        self.resolver = Resolver(self.dns.config(), reactor, hosts=Path("/nonexistent"))
        self.addCleanup(self.resolver.close)
        await self.daily().tell()
        self.assertEqual(self.counts.over(), [])

    def test_days_that_are_too_old(self) -> None:
        """They are not kept for ever."""
        self.counts.add("x.test", NONE, None)
        self.seconds += 6 * DAY
        self.ledger.close()
        self.open()
        self.assertEqual(self.counts.over(), [])


class _Taker(Resource):
    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self.status = 201
        self.taken: list[tuple[bytes, bytes]] = []

    def render_POST(self, request: Any) -> bytes:
        request.setResponseCode(self.status)
        if self.status == 201:
            self.taken.append((request.getHeader(b"content-type"), request.content.read()))
        return b""
