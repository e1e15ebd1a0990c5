"""A day passes by the service's clock, and the domains that want to know are told how its TLS sessions went."""

from __future__ import annotations

import email
import gzip
import json
import time
from email.message import Message
from typing import Any

from tests.support.clock import Clock
from tests.support.exchanger import Exchanger
from tests.support.https import HttpsServer
from tests.support.router import until
from tests.support.signed import tlsa
from tests.support.world import POLICY, WEB, WorldCase

DAY = 86_400
NOON = 12 * 3600
LATER = 29 * 3600
"""Seconds from noon until the next day is old enough for reports."""


class ReportTests(WorldCase):
    def test_yesterdays_sessions_are_reported_by_mail_and_https(self) -> None:
        """RFC 8460 4 and 5: for each domain what was wanted of its sessions, how many went well and how the others
        failed, of that day from its first second to its last; the mail leaves even where the report tells
        of a host whose mail waits.
        """
        clock = Clock(self, monotonic=True)
        clock.jump(NOON - time.time() % DAY)
        noon = int(time.time() + clock.offset)
        self.environment.update(clock.environment)
        signer = self.stranger.credential(["mx1.test"])
        Exchanger(self, "127.0.1.1", tls=signer)
        untrusted = Exchanger(self, "127.0.1.2", tls=self.stranger.credential(["mx2.open"]))
        collector = Exchanger(self, "127.0.1.3")
        web = HttpsServer(self, self.authority, ["mta-sts.strict.open", "reports.open"], WEB)
        web.pages["mta-sts.strict.open/.well-known/mta-sts.txt"] = POLICY % ("enforce", "mx2.open")
        wanted = 'TXT "v=TLSRPTv1; rua=mailto:tls@%s,https://reports.open/tls"'
        self.dns.serve(
            [
                "right MX 10 mx1",
                "mx1 A 127.0.1.1",
                tlsa("mx1", signer),
                f"_smtp._tls.right {wanted % 'collector.open'}",
            ],
            [
                *(
                    "strict MX 10 mx2",
                    "mx2 A 127.0.1.2",
                    f"_smtp._tls.strict {wanted % 'strict.open'}",
                    f"mta-sts.strict A {WEB}",
                ),
                *('_mta-sts.strict TXT "v=STSv1; id=1"', f"reports A {WEB}"),
                *("collector MX 10 mx3", "mx3 A 127.0.1.3"),
            ],
        )
        router = self.router()
        self.send(router, "b@right.test", "b@strict.open")
        lines = self.outcomes(router, "b@right.test", "b@strict.open")
        self.assertEqual(lines["b@right.test"]["outcome"], "delivered")
        self.assertEqual(lines["b@strict.open"]["outcome"], "deferred")
        clock.jump(LATER)
        until(lambda: router.status() and collector.taken and untrusted.taken and len(web.posted) >= 2)
        by_mail = [self.of_mail(taken.content) for taken in collector.taken + untrusted.taken]
        self.assertEqual(untrusted.taken[0].recipients, ("tls@strict.open",))
        by_https = [json.loads(gzip.decompress(body)) for _, _, body in web.posted]
        self.assertEqual({one[:2] for one in web.posted}, {("/tls", "application/tlsrpt+gzip")})
        midnight = noon - noon % DAY
        for reports in (by_mail, by_https):
            told = {report["policies"][0]["policy"]["policy-domain"]: report for report in reports}
            self.assertEqual(told.keys(), {"right.test", "strict.open"})
            for report in reports:
                self.assertEqual(report["organization-name"], "mail.example.test")
                self.assertEqual(report["contact-info"], "root@local.test")
                span = {"start-datetime": _utc(midnight), "end-datetime": _utc(midnight + DAY - 1)}
                self.assertEqual(report["date-range"], span)
            (right,), (strict,) = told["right.test"]["policies"], told["strict.open"]["policies"]
            self.assertEqual(right["policy"]["policy-type"], "tlsa")
            self.assertRegex(right["policy"]["policy-string"][0], "^3 1 1 [0-9a-f]{64}$")
            self.assertEqual(right["policy"]["mx-host"], ["mx1.test"])
            self.assertEqual(right["summary"], {"total-successful-session-count": 1, "total-failure-session-count": 0})
            self.assertEqual(strict["policy"]["policy-type"], "sts")
            self.assertIn("mode: enforce", strict["policy"]["policy-string"])
            self.assertEqual(strict["summary"]["total-successful-session-count"], 0)
            failed = strict["summary"]["total-failure-session-count"]
            self.assertGreaterEqual(failed, 1)
            (detail,) = strict["failure-details"]
            self.assertEqual(detail["result-type"], "certificate-not-trusted")
            self.assertEqual(detail["receiving-mx-hostname"], "mx2.open")
            self.assertEqual(detail["receiving-ip"], "127.0.1.2")
            self.assertEqual(detail["failed-session-count"], failed)

    def of_mail(self, content: bytes) -> Any:
        """The report in a message, which is as RFC 8460 5.3 wants it."""
        letter: Message = email.message_from_bytes(content)
        domain = letter["TLS-Report-Domain"]
        self.assertEqual(letter["TLS-Report-Submitter"], "mail.example.test")
        self.assertEqual(letter["TLS-Required"], "No")
        self.assertRegex(
            letter["Subject"], f"^Report Domain: {domain} Submitter: mail.example.test Report-ID:\\s+<.*>$"
        )
        self.assertEqual((letter.get_content_type(), letter.get_param("report-type")), ("multipart/report", "tlsrpt"))
        parts = letter.get_payload()
        assert isinstance(parts, list)
        _, part = parts
        assert isinstance(part, Message)
        self.assertEqual(part.get_content_type(), "application/tlsrpt+gzip")
        self.assertRegex(part.get_filename() or "", rf"^mail\.example\.test!{domain}!\d+!\d+(!.*)?\.json\.gz$")
        packed = part.get_payload(decode=True)
        assert isinstance(packed, bytes)
        return json.loads(gzip.decompress(packed))


def _utc(instant: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(instant))
