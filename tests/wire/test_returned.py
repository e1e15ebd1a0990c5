"""Reports that come back, as others write them. RFC 3464, 5965, 6650."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.returned import Fate, Returned, may_be, read

DSN = """\
From: MAILER-DAEMON@mx.example.net
To: news@example.com
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="=_x"

--=_x
Content-Type: text/plain

Sorry.

--=_x
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
Arrival-Date: Sat, 21 Nov 2026 10:00:00 +0000

Original-Recipient: rfc822;bob@example.net
Final-Recipient: rfc822; robert@inner.example.net
Action: failed
Status: 5.1.1
Remote-MTA: dns; inner.example.net
Diagnostic-Code: smtp; 550 5.1.1 <robert@inner.example.net>: no such
 user here

Final-Recipient: rfc822;carol@example.net
Action: delayed
Status: 4.4.1 (no connection)

--=_x
Content-Type: message/rfc822

From: news@example.com
To: bob@example.net

Hello
--=_x--
"""
ARF = """\
From: <abusedesk@example.net>
To: <fbl@example.com>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b"

--b
Content-Type: text/plain

This is an email abuse report.

--b
Content-Type: message/feedback-report

Feedback-Type: Abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <news+1-0-aaaaaaaabbbbbbbb@example.com>
Original-Rcpt-To: <user@example.net>

--b
Content-Type: message/rfc822

From: News <news@example.com>
To: User <other@example.net>, redacted

Spam spam
--b--
"""


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


class ReadTests(SynchronousTestCase):
    def test_a_report_of_delivery(self) -> None:
        """RFC 3464 2.3: a group for each recipient, both its addresses, the reply as the server gave it."""
        failed = Fate(
            addresses=("bob@example.net", "robert@inner.example.net"),
            action="failed",
            reply="550 5.1.1 <robert@inner.example.net>: no such user here",
        )
        delayed = Fate(addresses=("carol@example.net",), action="delayed", reply="450 4.4.1")
        for octets in (crlf(DSN), DSN.encode()):
            self.assertTrue(may_be(octets))
            self.assertEqual(read(octets), Returned(fates=(failed, delayed)))

    def test_a_complaint(self) -> None:
        """RFC 5965 3: the kind, and whom the message may have been for; addresses in the third part count too."""
        self.assertEqual(
            read(crlf(ARF)), Returned(feedback="abuse", addresses=("user@example.net", "other@example.net"))
        )

    def test_what_is_none(self) -> None:
        """Mail of other kinds, and reports without anything in them."""
        for octets in (
            b"",
            b"Subject: x\r\n\r\nmultipart/report\r\n",
            crlf(DSN.replace("message/delivery-status", "text/plain")),
            crlf(DSN.replace("Action:", "Auction:")),
            crlf(DSN.replace("multipart/report", "multipart/mixed")),
        ):
            self.assertIsNone(read(octets))
        self.assertFalse(may_be(b"Subject: x\r\nContent-Type: text/plain\r\n"))

    def test_nonsense_is_bounded(self) -> None:
        """Parts within parts, endless fields and groups: an answer, soon."""
        nested = "".join(f'Content-Type: multipart/report; boundary="{n}"\r\n\r\n--{n}\r\n' for n in range(10_000))
        groups = "Final-Recipient: rfc822;a@x.test\r\nAction: failed\r\nStatus: 5.0.0\r\n\r\n" * 20_000
        many = crlf(DSN).replace(b"Reporting-MTA: dns; mx.example.net\r\n", groups.encode())
        began = time.process_time()
        for octets in (nested.encode(), many, crlf(DSN).replace(b"5.1.1", b"5.1.1 " * 100_000)):
            read(octets)
        self.assertLess(time.process_time() - began, 30)  # a runaway takes for ever

    @given(st.binary(max_size=400), st.integers(0, 900))
    def test_anything_is_read(self, octets: bytes, at: int) -> None:
        """Whatever is in it or missing, it is a report or none."""
        for whole in (octets, crlf(DSN)[:at] + octets + crlf(DSN)[at:], crlf(ARF)[:at] + octets):
            self.assertIsInstance(read(whole), Returned | None)
