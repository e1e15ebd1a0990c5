"""Notifications read by somebody else's parser: structure, fields, and what may come back of the original."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.dsn.notice import MAX_RECIPIENTS, Notice, Told
from dcrouter.wire.dsn.report import MAX_REPLY, notification

ORIGINAL = b"Message-ID: <1.2@x.test>\r\nSubject: Hello\r\nTo: b@y.test\r\n\r\nthe body\r\n"
NOTICE = Notice(
    id="5f4",
    to="a@x.test",
    hostname="mail.x.test",
    now=1_780_000_000.0,
    sender="a@x.test",
    name="5f3",
    received=1_780_000_000.0 - 60,
    recipients=(Told(address="b@y.test", reply="550 5.1.1 No such user", remote="mx.y.test"),),
    original=ORIGINAL,
)

GOLDEN = """\
From: Mail Delivery System <MAILER-DAEMON@mail.x.test>
To: <a@x.test>
Subject: Undelivered mail returned to sender
Date: Thu, 28 May 2026 20:26:40 +0000
Message-ID: <5f4@mail.x.test>
In-Reply-To: <1.2@x.test>
References: <1.2@x.test>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="BOUNDARY"

This is a message in MIME format: a notice of delivery, for a person and for a program.

--BOUNDARY
Content-Type: text/plain; charset=us-ascii

This is the mail server mail.x.test.

Your message could not be delivered to one recipient. It will not be
tried again.

<b@y.test>
    The server mx.y.test said:
    550 5.1.1 No such user

    What to do: Check the address for mistakes. If it is right, the
    recipient has to ask their administrator.

For help, write to postmaster@mail.x.test and quote the message's
number, 5f3.
What is attached: a report for programs, and the message itself or its header.

--BOUNDARY
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.x.test
X-Dcrouter-Message: 5f3
Arrival-Date: Thu, 28 May 2026 20:25:40 +0000
X-Dcrouter-Sender: rfc822; a@x.test

Final-Recipient: rfc822; b@y.test
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.y.test
Diagnostic-Code: smtp; 550 5.1.1 No such user
Last-Attempt-Date: Thu, 28 May 2026 20:26:40 +0000

--BOUNDARY
Content-Type: text/rfc822-headers

Message-ID: <1.2@x.test>
Subject: Hello
To: b@y.test

--BOUNDARY--
"""


def parsed(notice: Notice) -> EmailMessage:
    """As Python's parser has it; AssertionError where it finds a defect in what we wrote."""
    octets = notification(notice)
    assert b"\n" not in octets.replace(b"\r\n", b"") and b"\r" not in octets.replace(b"\r\n", b"")
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    for part in (message, *message.iter_parts()):
        assert not part.defects, part.defects
    return message


def parts(notice: Notice) -> list[EmailMessage]:
    return list(parsed(notice).iter_parts())  # type: ignore[arg-type]


def groups(notice: Notice) -> list[EmailMessage]:
    """Of the second part: the fields of the message, then of each recipient."""
    return list(parts(notice)[1].get_payload())


class ReportTests(SynchronousTestCase):
    def test_a_notification_octet_for_octet(self) -> None:
        """The whole message, but for its boundary."""
        octets = notification(NOTICE)
        boundary = octets.partition(b'boundary="')[2].partition(b'"')[0]
        text = octets.replace(boundary, b"BOUNDARY").decode("ascii")
        self.assertEqual(text, GOLDEN.replace("\n", "\r\n"))

    def test_it_is_a_report_of_three_parts(self) -> None:
        """multipart/report; report-type=delivery-status: words, fields, header. RFC 6522, RFC 3834."""
        message = parsed(NOTICE)
        self.assertEqual(message.get_content_type(), "multipart/report")
        self.assertEqual(message.get_param("report-type"), "delivery-status")
        self.assertEqual(message["Auto-Submitted"], "auto-replied")
        types = [part.get_content_type() for part in message.iter_parts()]
        self.assertEqual(types, ["text/plain", "message/delivery-status", "text/rfc822-headers"])

    def test_each_recipient_has_a_group_of_fields(self) -> None:
        """Status by the enhanced code, or the class of the code; what no server said is no smtp diagnostic."""
        cases = (
            ("550 5.1.1 No", "mx.y.test", "5.1.1", "smtp; 550 5.1.1 No"),
            ("550 No", "mx.y.test", "5.0.0", "smtp; 550 No"),
            ("452 full", "mx.y.test", "4.0.0", "smtp; 452 full"),
            ("550 4.7.1 contradiction", "mx.y.test", "5.7.1", "smtp; 550 4.7.1 contradiction"),
            ("4.4.1 timeout", "", "4.4.1", "X-Dcrouter; 4.4.1 timeout"),
            ("no rule named x", "", "5.0.0", "X-Dcrouter; no rule named x"),
            ("", "", "5.0.0", "X-Dcrouter;"),
            ("550 5.1.1x no", "[192.0.2.1]", "5.0.0", "smtp; 550 5.1.1x no"),
        )
        told = tuple(Told(address=f"b{at}@y.test", reply=case[0], remote=case[1]) for at, case in enumerate(cases))
        head, *rest = groups(evolve(NOTICE, recipients=told))
        self.assertEqual(head["Reporting-MTA"], "dns; mail.x.test")
        for at, (group, (reply, remote, status, diagnostic)) in enumerate(zip(rest, cases, strict=True)):
            self.assertEqual(group["Final-Recipient"], f"rfc822; b{at}@y.test")
            self.assertEqual((group["Action"], group["Status"]), ("failed", status), reply)
            self.assertEqual(group["Diagnostic-Code"].strip(), diagnostic)
            self.assertEqual(group["Remote-MTA"], f"dns; {remote}" if remote else None)

    def test_a_delay_says_until_when(self) -> None:
        """Action delayed, status 4.x, Will-Retry-Until; the original recipient where it is another."""
        told = Told(
            address="b@y.test", original="rfc822;alias@x.test", reply="451 later", action="delayed", remote="mx.y.test"
        )
        notice = evolve(NOTICE, until=NOTICE.now + 86400, recipients=(told,))
        _, group = groups(notice)
        self.assertEqual((group["Action"], group["Status"]), ("delayed", "4.0.0"))
        self.assertEqual(group["Will-Retry-Until"], "Fri, 29 May 2026 20:26:40 +0000")
        self.assertEqual(group["Original-Recipient"], "rfc822; alias@x.test")

    def test_each_recipient_has_its_own_end(self) -> None:
        """Mixed results are one notification: Action and Status of each, Will-Retry-Until of who waits. RFC 3464 2.3.3,
        2.3.9; the sender's name for the message is returned, RFC 3464 2.2.1."""
        told = (
            Told(address="a@y.test", reply="550 5.1.1 no", remote="mx.y.test"),
            Told(address="b@y.test", reply="451 later", action="delayed", remote="mx.y.test"),
            Told(address="c@y.test", reply="250 ok", action="relayed", remote="mx.y.test"),
            Told(address="d@y.test", reply="delivered to Maildir", action="delivered"),
        )
        notice = evolve(NOTICE, recipients=told, until=NOTICE.now + 86400, envid="order 7+")
        head, *rest = groups(notice)
        self.assertEqual(head["Original-Envelope-Id"], "order 7+")
        self.assertEqual(
            [(group["Action"], group["Status"], group["Will-Retry-Until"] is not None) for group in rest],
            [
                ("failed", "5.1.1", False),
                ("delayed", "4.0.0", True),
                ("relayed", "2.0.0", False),
                ("delivered", "2.0.0", False),
            ],
        )
        self.assertEqual(parsed(notice)["Subject"], "What became of your mail")
        for one, subject in ((told[2], "Your mail has been passed on"), (told[3], "Your mail has been delivered")):
            self.assertEqual(parsed(evolve(NOTICE, recipients=(one,)))["Subject"], subject)

    def test_what_is_beyond_ascii_has_types_of_its_own(self) -> None:
        """message/global-delivery-status, message/global-headers and message/global, in UTF-8 as it is; where all
        must be ASCII, an address is written with \\x{...}. RFC 6533 3, 4, 6."""
        header = "Message-ID: <1@x.test>\r\nSubject: Gr\u00fc\u00dfe\r\n".encode()
        told = Told(address="\u7528\u6237@\u4f8b.test", original="utf-8;j\u00f6rg@x.test", reply="550 5.1.1 no")
        notice = evolve(
            NOTICE, recipients=(told,), original=header, utf8=True, sender="m\u00fc@x.test", to="m\u00fc@x.test"
        )
        octets = notification(notice)
        for text in (
            "To: <m\u00fc@x.test>\r\n",
            "\r\nContent-Type: message/global-delivery-status\r\n",
            "\r\nFinal-Recipient: utf-8; \u7528\u6237@\u4f8b.test\r\n",
            "\r\nOriginal-Recipient: utf-8; j\u00f6rg@x.test\r\n",
            "<\u7528\u6237@\u4f8b.test> (sent to <j\u00f6rg@x.test>)\r\n",
            "\r\nContent-Type: message/global-headers\r\n",
            "Subject: Gr\u00fc\u00dfe\r\n",
        ):
            self.assertIn(text.encode(), octets)
        self.assertEqual(parsed(notice)["Content-Transfer-Encoding"], "8bit")
        self.assertIn(b"Content-Type: message/global\r\n", notification(evolve(notice, whole=True)))
        self.assertNotIn(b"message/global-headers", notification(evolve(notice, original=b"Subject: \xff\r\n")))
        plain = notification(evolve(notice, utf8=False, to="a@x.test"))
        self.assertTrue(plain.isascii())
        self.assertIn(rb"Final-Recipient: utf-8; \x{7528}\x{6237}\x{40}\x{4F8B}.test".replace(rb"\x{40}", b"@"), plain)
        self.assertIn(b"\r\nContent-Type: message/delivery-status\r\n", plain)

    def test_a_private_message_comes_back_as_its_name_only(self) -> None:
        """No subject, nothing of the body, however much was wanted. RFC 8689 5."""
        octets = notification(evolve(NOTICE, private=True, whole=True))
        self.assertIn(b"Message-ID: <1.2@x.test>\r\nTo: b@y.test\r\n", octets)
        self.assertNotIn(b"Hello", octets)
        self.assertNotIn(b"the body", octets)

    def test_the_whole_message_comes_back_where_it_can(self) -> None:
        """As message/rfc822; octets above 127 are labelled, on every level; lines too long leave the header."""
        part = parts(evolve(NOTICE, whole=True))[2]
        self.assertEqual(part.get_content_type(), "message/rfc822")
        inner = part.get_payload(0)
        assert isinstance(inner, EmailMessage)
        self.assertEqual(inner.get_payload(), "the body\r\n")
        eight = evolve(NOTICE, whole=True, original=ORIGINAL + b"\xff\r\n")
        self.assertEqual(parsed(eight)["Content-Transfer-Encoding"], "8bit")
        self.assertEqual(parts(eight)[2]["Content-Transfer-Encoding"], "8bit")
        self.assertIn(ORIGINAL + b"\xff\r\n", notification(eight))
        long = evolve(NOTICE, whole=True, original=ORIGINAL + b"x" * 1000 + b"\r\n")
        self.assertEqual(parts(long)[2].get_content_type(), "text/rfc822-headers")

    def test_a_header_beyond_ascii_is_encoded(self) -> None:
        """quoted-printable, from which the same octets come out; so do lines that are too long."""
        for header in (
            b"Subject: J\xf6rg \xff=\r\nTo: b@y.test\r\n",
            b"X: " + b"x" * 3000 + b"\r\nY: y\r\n",
            b"X: \xff. \r\n",
        ):
            notice = evolve(NOTICE, original=header + b"\r\nbody")
            part = parts(notice)[2]
            self.assertEqual(part["Content-Transfer-Encoding"], "quoted-printable")
            self.assertEqual(part.get_payload(decode=True), header)
            self.assertTrue(notification(notice).isascii())

    def test_what_is_quoted_is_bounded(self) -> None:
        """A reply of pages, and more recipients than anybody reads."""
        told = Told(address="b@y.test", reply="550 " + "x y" * 100_000, remote="mx.y.test")
        self.assertLess(len(notification(evolve(NOTICE, recipients=(told,)))), 4 * MAX_REPLY)
        many = evolve(NOTICE, recipients=(Told(address="b@y.test", reply="550 no"),) * (MAX_RECIPIENTS + 5))
        self.assertEqual(len(groups(many)), 1 + MAX_RECIPIENTS)
        self.assertIn("And 5 more.", parts(many)[0].get_content())

    def test_a_message_id_is_quoted_only_where_it_is_one(self) -> None:
        """Folded ones too; nothing that is long, broken, or in the body."""
        good = (b"Message-ID: <a@b>", b"MESSAGE-id:<a@b> ", b"X: y\r\nMessage-Id:\r\n <a@b>")
        bad = (
            b"Message-ID: a@b",
            b"Message-ID: <a b>",
            b"Message-ID: <" + b"x" * 300 + b">",
            b"X: y\r\n\r\nMessage-ID: <a@b>",
            b"Message-ID: <a\xff@b>",
            b"X-Message-ID: <a@b>",
            b"X: Message-ID: <a@b>",
            b"\r\nMessage-ID: <a@b>",
        )
        for header in good:
            self.assertEqual(parsed(evolve(NOTICE, original=header + b"\r\n\r\n"))["In-Reply-To"], "<a@b>", header)
        for header in bad:
            self.assertIsNone(parsed(evolve(NOTICE, original=header + b"\r\n\r\n"))["In-Reply-To"], header)

    @given(st.binary(max_size=400), st.text(max_size=200), st.booleans())
    def test_nothing_breaks_the_structure(self, original: bytes, reply: str, whole: bool) -> None:
        """Whatever the original and the reply: three parts, one group, no defect."""
        notice = evolve(
            NOTICE,
            recipients=(Told(address="b@y.test", reply=reply, remote="mx.y.test"),),
            original=original,
            whole=whole,
        )
        self.assertEqual(len(parts(notice)), 3)
        self.assertEqual(len(groups(notice)), 2)

    def test_an_original_that_imitates_us_changes_nothing(self) -> None:
        """A notification inside a notification, with boundaries and all."""
        inner = notification(NOTICE)
        for whole in (True, False):
            for original in (inner, inner.replace(b"From:", b"--=_\r\nFrom:"), b"--=_x--\r\n" * 20 + b"\r\n"):
                notice = evolve(NOTICE, original=original, whole=whole)
                self.assertEqual(len(parts(notice)), 3)
