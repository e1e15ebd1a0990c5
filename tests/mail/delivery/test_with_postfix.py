"""What a message carries, with servers that others have written: Postfix and its smtp-sink as next hops."""

from __future__ import annotations

import email
import smtplib
import time
from email.message import Message
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dcrouter.config.rules import Deliver, Rule, RuleMatch
from dcrouter.mail.envelope import Terms
from tests.mail.house import House, forward, in_thread
from tests.mail.notices import groups
from tests.mail.queue.made import message
from tests.support.facts import until
from tests.support.mailers import Next, Postfix
from tests.support.ports import Reserved
from tests.support.programs import SmtpSink

LOCAL = Rule(
    name="local", match=RuleMatch(recipients=("*@example.test",)), action=Deliver(maildir="maildir/{recipient}")
)
TEXT = "From: a@example.test\r\nTo: joe@inbox.test\r\nSubject: x\r\nMessage-ID: <1@example.test>\r\n\r\ntext\r\n"
EIGHT = (
    "From: a@example.test\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n\r\nGr\u00fc\u00dfe\r\n.\r\n"
).encode()


class PostfixTests(TestCase):
    def open(self, more: str = "") -> None:
        """Postfix takes inbox.test, and sends to us what it has to say."""
        place = Reserved()
        self.addCleanup(place.close)
        self.house = House(
            self, LOCAL, forward(place.port, recipients="*"), trusted=(ip_network("127.0.0.0/8"),), require_tls="never"
        )
        identity = Path(self.mktemp()).absolute()
        identity.mkdir(parents=True)
        Postfix.certify(identity)
        self.postfix = Postfix(Next(port=self.house.listen()), place.port, identity, more)
        self.addCleanup(self.postfix.close)

    def send(
        self, *recipients: tuple[str, str], asked: tuple[str, ...] = (), sender: str = "a@example.test"
    ) -> Deferred[None]:
        """(address, what RCPT says) each."""
        port = self.house.listen("submission")

        def client() -> None:
            with smtplib.SMTP("127.0.0.1", port, timeout=240) as smtp:
                smtp.ehlo()
                assert smtp.mail(sender, list(asked))[0] == 250
                for address, said in recipients:
                    assert smtp.rcpt(address, [said] if said else [])[0] == 250
                assert smtp.data(TEXT)[0] == 250

        return in_thread(client)

    async def put(self, *addresses: str, octets: bytes = EIGHT, **more: Any) -> None:
        await self.house.mta._queue.put(
            message(1, *addresses, rule="out", octets=octets, received=time.time(), eightbit=True, **more)
        )

    async def told(self, count: int = 1) -> list[list[Message]]:
        """The notifications that the sender has, their groups of fields."""
        await until(lambda: len(self.house.mails("a@example.test")) >= count, seconds=60)
        return [groups(raw) for raw in self.house.mails("a@example.test")]

    async def test_success_is_told_by_the_server_that_delivers(self) -> None:
        """RFC 3461 5.2.1: NOTIFY, ORCPT, ENVID and RET get there, and only its notification comes."""
        self.open()
        await self.send(
            ("joe@inbox.test", "NOTIFY=SUCCESS ORCPT=rfc822;alias+2Bx@else.test"), ("ann@inbox.test", "NOTIFY=NEVER"),
            asked=("RET=HDRS", "ENVID=QQ+2B314"),
        )  # fmt: skip
        ((head, group),) = await self.told()
        self.assertEqual((head["Reporting-MTA"], head["Original-Envelope-Id"]), ("dns; postfix.test", "QQ+314"))
        self.assertEqual(group["Action"], "delivered")
        self.assertEqual(group["Original-Recipient"].replace(" ", ""), "rfc822;alias+x@else.test")
        self.assertEqual(self.house.mta.status()["notices"], 0)
        await until(lambda: self.postfix.mails("ann"))

    async def test_success_is_told_by_us_where_the_server_does_not(self) -> None:
        """RFC 3461 5.2.2, 6.2: `relayed`, and what failed in the same attempt, in one notification."""
        self.open("smtpd_discard_ehlo_keywords = dsn\n")
        await self.send(
            ("joe@inbox.test", "NOTIFY=SUCCESS,FAILURE"), ("nobody@inbox.test", ""), ("ann@inbox.test", ""),
            asked=("ENVID=e1",),
        )  # fmt: skip
        ((head, *groups),) = await self.told()
        self.assertEqual((head["Reporting-MTA"], head["Original-Envelope-Id"]), ("dns; mail.example.test", "e1"))
        self.assertEqual(
            [(group["Final-Recipient"], group["Action"], group["Status"]) for group in groups],
            [("rfc822; joe@inbox.test", "relayed", "2.0.0"), ("rfc822; nobody@inbox.test", "failed", "5.1.1")],
        )

    async def test_a_server_that_passes_on_is_told_of_success(self) -> None:
        """RFC 3461 4, 6.2: Postfix hands us what its client asked for; who delivers here tells it of that."""
        self.open()

        def client() -> None:
            with smtplib.SMTP("127.0.0.1", self.postfix.port, timeout=240) as smtp:
                smtp.ehlo()
                assert smtp.mail("joe@inbox.test", ["RET=FULL", "ENVID=x+2By"])[0] == 250
                assert smtp.rcpt("b@example.test", ["NOTIFY=SUCCESS", "ORCPT=rfc822;first@else.test"])[0] == 250
                assert smtp.data(TEXT)[0] == 250

        await in_thread(client)
        await until(lambda: self.postfix.mails("joe"), seconds=60)
        notice = self.postfix.mails("joe")[0]
        head, group = groups(notice)
        self.assertEqual((head["Reporting-MTA"], head["Original-Envelope-Id"]), ("dns; mail.example.test", "x+y"))
        self.assertEqual(group["Action"], "delivered")
        self.assertEqual(group["Original-Recipient"], "rfc822; first@else.test")
        self.assertEqual(list(email.message_from_bytes(notice).walk())[-1].get_content_type(), "text/rfc822-headers")

    async def test_a_large_message_inside_tls(self) -> None:
        """By STARTTLS, read from its spool file: all of it, in order, dots and all."""
        self.open()
        text = TEXT + "".join(f"line {number}\r\n.{number}\r\n" for number in range(100_000))

        port = self.house.listen("submission")

        def client() -> None:
            with smtplib.SMTP("127.0.0.1", port, timeout=60) as smtp:
                smtp.sendmail("a@example.test", "joe@inbox.test", text.encode())

        await in_thread(client)
        await until(lambda: self.postfix.mails("joe"), seconds=60)
        _, _, body = self.postfix.mails("joe")[0].partition(b"\n\n")
        self.assertEqual(body.rstrip(b"\n"), text.partition("\r\n\r\n")[2].replace("\r\n", "\n").rstrip().encode())
        self.assertRegex(self.house.done[0].tls or "", r"^TLSv1")

    async def test_nothing_is_told_of_who_wants_to_hear_nothing(self) -> None:
        """RFC 3461 4.1: NOTIFY=NEVER of a recipient that is refused; it stays for the operator to see."""
        self.open()
        await self.send(("nobody@inbox.test", "NOTIFY=NEVER"))
        await until(lambda: self.house.mta.status()["failed"])
        await self.house.idle()
        rows = await self.house.queue()
        self.assertEqual([(row["recipient"], row["state"]) for row in rows], [("nobody@inbox.test", "failed")])
        self.assertEqual(self.house.mta.status()["notices"], 0)

    async def test_utf8_gets_there(self) -> None:
        """RFC 6531 3.1, 3.2: a header and a sender in UTF-8."""
        self.open()
        octets = "Subject: Gr\u00fc\u00dfe\r\nMessage-ID: <1@x>\r\n\r\n\u00fc\r\n".encode()
        await self.put("joe@inbox.test", octets=octets, sender="j\u00f6rg@example.test", terms=Terms(smtputf8=True))
        await until(lambda: self.postfix.mails("joe"), seconds=60)
        self.assertIn("Return-Path: <j\u00f6rg@example.test>\n".encode(), self.postfix.mails("joe")[0])
        self.assertIn("Subject: Gr\u00fc\u00dfe\n".encode(), self.postfix.mails("joe")[0])

    async def test_utf8_of_a_client_gets_there(self) -> None:
        """RFC 6531 3.1: from MAIL with SMTPUTF8 to the mailbox."""
        self.open()
        port = self.house.listen("submission")

        def client() -> None:
            with smtplib.SMTP("127.0.0.1", port, timeout=240) as smtp:
                text = (
                    "Subject: Gr\u00fc\u00dfe\r\nMessage-ID: <1@x>\r\nFrom: a@example.test\r\n\r\n\u00fc\r\n".encode()
                )
                smtp.sendmail("j\u00f6rg@example.test", ["joe@inbox.test"], text, ["SMTPUTF8", "BODY=8BITMIME"])

        await in_thread(client)
        await until(lambda: self.postfix.mails("joe"), seconds=60)
        self.assertIn("Return-Path: <j\u00f6rg@example.test>\n".encode(), self.postfix.mails("joe")[0])

    async def test_who_takes_less_gets_another_form(self) -> None:
        """RFC 6152 3, RFC 6531 3.6: quoted-printable and A-labels; Postfix decodes neither."""
        self.open("smtpd_discard_ehlo_keywords = 8bitmime, smtputf8\n")
        await self.put("joe@inbox.test", sender="a@\u00e4.test", terms=Terms(smtputf8=True))
        await until(lambda: self.postfix.mails("joe"), seconds=60)
        (raw,) = self.postfix.mails("joe")
        self.assertIn(b"Return-Path: <a@xn--4ca.test>\n", raw)
        found = email.message_from_bytes(raw)
        self.assertEqual(found["Content-Transfer-Encoding"], "quoted-printable")
        self.assertEqual(found.get_payload(decode=True), "Gr\u00fc\u00dfe\n.\n".encode())


class SinkTests(TestCase):
    async def test_a_sink_without_8bitmime_gets_lines_of_ascii(self) -> None:
        """RFC 6152 3, by smtp-sink -8."""
        sink = SmtpSink(options=["-8"])
        self.addCleanup(sink.close)
        house = House(self, LOCAL, forward(sink.port, recipients="*"))
        await house.mta._queue.put(message(1, rule="out", octets=EIGHT, received=time.time(), eightbit=True))
        await until(sink.messages)
        await house.idle()
        self.assertIn(b"\nGr=C3=BC=C3=9Fe\n", sink.messages()[0])
        self.assertTrue(sink.messages()[0].isascii())
