"""TLS reports, RFC 8460."""

from __future__ import annotations

import gzip
import json

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.tlsrpt import FailureKind, Policy, Section, addresses_of, file_name, mailbox_of, packed, report


class RecordTests(SynchronousTestCase):
    def test_who_wants_reports(self) -> None:
        """RFC 8460 3: several URIs, mailto and https, others passed over."""
        record = "v=TLSRPTv1; rua=mailto:reports@example.com, https://reports.example.com/v1/tlsrpt,ftp://x"
        self.assertEqual(
            addresses_of(["v=spf1", record]), ("mailto:reports@example.com", "https://reports.example.com/v1/tlsrpt")
        )

    def test_what_asks_for_none(self) -> None:
        """RFC 8460 3: two records, none, no rua; http is not safe enough."""
        one = "v=TLSRPTv1;rua=mailto:a@b.example"
        for texts in (
            [],
            [one, one],
            ["v=TLSRPTv1;"],
            ["v=TLSRPTv1; rua=http://a.example/x"],
            ["v=TLSRPTv1;rua=https://"],
        ):
            self.assertEqual(addresses_of(texts), (), texts)

    def test_a_mailbox(self) -> None:
        """RFC 6068: escapes are undone, what is asked for beside the address is not."""
        self.assertEqual(mailbox_of("mailto:tls%2Brpt@example.com?subject=x"), "tls+rpt@example.com")
        self.assertIsNone(mailbox_of("https://a.example"))


class ReportTests(SynchronousTestCase):
    def test_a_report(self) -> None:
        """RFC 8460 4.4: policies, counts, and the details of what failed."""
        sts = Policy(
            type="sts", domain="example.com", lines=("version: STSv1", "mode: testing"), hosts=("*.mail.example.com",)
        )
        kind = FailureKind(
            type="certificate-expired", host="mx1.mail.example.com", address="203.0.113.58", ours="2001:db8::1"
        )
        told = report(
            id="1@mta.example.net",
            organization="mta.example.net",
            contact="postmaster@mta.example.net",
            begin=1_459_468_800,
            end=1_459_555_199,
            sections=(
                Section(
                    policy=sts, successful=5326, failures=((kind, 100), (FailureKind(type="validation-failure"), 3))
                ),
            ),
        )
        self.assertEqual(json.loads(gzip.decompress(packed(told))), told)
        self.assertEqual(
            told,
            {
                "organization-name": "mta.example.net",
                "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
                "contact-info": "postmaster@mta.example.net",
                "report-id": "1@mta.example.net",
                "policies": [
                    {
                        "policy": {
                            "policy-type": "sts",
                            "policy-string": ["version: STSv1", "mode: testing"],
                            "policy-domain": "example.com",
                            "mx-host": ["*.mail.example.com"],
                        },
                        "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 103},
                        "failure-details": [
                            {
                                "result-type": "certificate-expired",
                                "sending-mta-ip": "2001:db8::1",
                                "receiving-mx-hostname": "mx1.mail.example.com",
                                "receiving-ip": "203.0.113.58",
                                "failed-session-count": 100,
                            },
                            {"result-type": "validation-failure", "failed-session-count": 3},
                        ],
                    }
                ],
            },
        )

    def test_its_file(self) -> None:
        """RFC 8460 5.1."""
        name = file_name("mta.example.net", "example.com", 1470013207.5, 1470186007)
        self.assertEqual(name, "mta.example.net!example.com!1470013207!1470186007.json.gz")
