"""What a message carries besides its text, with Exim and OpenSMTPD as next hops: DSN, SMTPUTF8, REQUIRETLS, 8 bit."""

from __future__ import annotations

import email
import smtplib
import time
from email.message import Message
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from dcrouter.config.rules import Deliver, Rule, RuleMatch
from dcrouter.mail.envelope import Terms
from tests.mail.house import House, forward, in_thread
from tests.mail.queue.made import message
from tests.support.facts import until
from tests.support.mailers import Exim, Kind, Next, OpenSmtpd
from tests.support.ports import Reserved

LOCAL = Rule(
    name="local", match=RuleMatch(recipients=("*@example.test",)), action=Deliver(maildir="maildir/{recipient}")
)
HEAD = "From: a@example.test\r\nTo: joe@inbox.test\r\nSubject: x\r\nMessage-ID: <1@example.test>\r\n"
TEXT = f"{HEAD}\r\ntext\r\n"
EIGHT = (
    f"{HEAD}MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n\r\nGr\u00fc\u00dfe\r\n"
).encode()


class ServerCase:
    """`offers`: what it has of the extensions that matter here; `name`: what it calls itself, in .test; `named`: the
    message, in its reports.
    """

    server: Kind
    name: str
    named: str | None = "QQ314"
    offers: frozenset[str]

    def setUp(self) -> None:
        place = Reserved()
        self.addCleanup(place.close)  # type: ignore[attr-defined]
        self.house = House(
            self,  # type: ignore[arg-type]
            LOCAL,
            forward(place.port, recipients="*"),
            trusted=(ip_network("127.0.0.0/8"),),
            require_tls="never",
        )
        identity = Path(self.mktemp()).absolute()  # type: ignore[attr-defined]
        identity.mkdir(parents=True)
        self.server.certify(identity)
        self.peer = self.server(Next(port=self.house.listen()), place.port, identity)
        self.addCleanup(self.peer.close)  # type: ignore[attr-defined]
        with smtplib.SMTP("127.0.0.1", place.port, timeout=240) as client:
            client.ehlo()
            found = {name.upper() for name in client.esmtp_features}
        assert found & {"DSN", "SMTPUTF8", "8BITMIME", "REQUIRETLS"} == self.offers, found

    async def told(self, name: str) -> Any:
        """The fields of a notification about the message and of those about its recipients, of server `name`."""
        await until(lambda: self.house.mails("a@example.test"))
        (raw,) = self.house.mails("a@example.test")
        status = email.message_from_bytes(raw).get_payload(1)
        assert isinstance(status, Message)
        told = [dict(group.items()) for group in status.walk()][1:]
        assert told[0]["Reporting-MTA"] == f"dns; {name}", raw
        return told

    def put(self, octets: bytes, **more: Any) -> Any:
        eightbit = not octets.isascii()
        one = message(1, "joe@inbox.test", rule="out", octets=octets, received=time.time(), eightbit=eightbit, **more)
        return self.house.mta._queue.put(one)

    async def test_success_is_told_by_one_of_us(self) -> Any:
        """RFC 3461 5.2: by the server where it has DSN, with the names that were given; else by us, as `relayed`."""
        port = self.house.listen("submission")

        def client() -> None:
            with smtplib.SMTP("127.0.0.1", port, timeout=240) as smtp:
                smtp.ehlo()
                assert smtp.mail("a@example.test", ["RET=HDRS", "ENVID=QQ314"])[0] == 250
                asked = ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;alias@else.test"]
                assert smtp.rcpt("joe@inbox.test", asked)[0] == 250
                assert smtp.data(TEXT)[0] == 250

        await in_thread(client)
        await until(lambda: self.peer.mails("joe"))
        theirs = "DSN" in self.offers
        head, group = await self.told(f"{self.name}.test" if theirs else "mail.example.test")
        assert group["Action"] == ("delivered" if theirs else "relayed"), group
        head = {name.lower(): value for name, value in head.items()}
        assert head.get("original-envelope-id") == self.named, head
        if self.named:
            assert group["Original-Recipient"].replace(" ", "") == "rfc822;alias@else.test", group
        await self.house.idle()
        assert len(self.house.mails("a@example.test")) == 1

    async def test_utf8_gets_there_or_comes_back(self) -> Any:
        """RFC 6531 3.1: as it is where SMTPUTF8 is offered; else what needs it fails with 5.6.7, unsent."""
        octets = "Subject: Gr\u00fc\u00dfe\r\nMessage-ID: <1@x>\r\n\r\n\u00fc\r\n".encode()
        await self.put(octets, sender="j\u00f6rg@example.test", terms=Terms(smtputf8=True))
        await until(lambda: self.house.done)
        (done,) = self.house.done[:1]
        if "SMTPUTF8" in self.offers:
            assert done.outcome == "delivered", done
            await until(lambda: self.peer.mails("joe"))
            assert "Subject: Gr\u00fc\u00dfe\n".encode() in self.peer.mails("joe")[0]
        else:
            assert (done.outcome, done.reply[:9]) == ("failed", "553 5.6.7"), done
            assert not self.peer.mails("joe")

    async def test_what_requires_tls_stays_here(self) -> Any:
        """RFC 8689 4.2.1: neither of them offers REQUIRETLS, so it fails with 5.7.30 and is not sent."""
        await self.put(TEXT.encode(), terms=Terms(requiretls=True))
        await until(lambda: self.house.done)
        (done,) = self.house.done[:1]
        assert (done.outcome, done.reply[:10]) == ("failed", "550 5.7.30"), done
        assert not self.peer.mails("joe")

    async def test_eight_bits_get_there(self) -> Any:
        """RFC 6152 3: both offer 8BITMIME, and store the octets that were sent."""
        await self.put(EIGHT)
        await until(lambda: self.peer.mails("joe"))
        assert "\n\nGr\u00fc\u00dfe\n".encode() in self.peer.mails("joe")[0]


class EximTests(ServerCase, TestCase):
    server = Exim
    name = "exim"
    offers = frozenset(("DSN", "SMTPUTF8", "8BITMIME"))


class OpenSmtpdTests(ServerCase, TestCase):
    server = OpenSmtpd
    name = "opensmtpd"
    named = None
    offers = frozenset(("DSN", "8BITMIME"))
