"""What a message carries to a next hop that offers more or less than it needs: passed on, written anew, or refused."""

from __future__ import annotations

import itertools
import time
from typing import Any

from twisted.trial.unittest import TestCase

from dcrouter.config.forms import HostPort
from dcrouter.config.rules import Deliver, Rule, RuleMatch
from dcrouter.mail.delivery import adaptation
from dcrouter.mail.envelope import Terms
from dcrouter.mail.message import Message, spool_path
from tests.mail.house import LOCAL, House, forward
from tests.mail.nexthop import ScriptedHop
from tests.mail.queue.made import message
from tests.support.facts import until

ALL = "250-next\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-CHUNKING\r\n250 BINARYMIME"
NOTHING = "250 next"
EIGHT = b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + "Gr\u00fc\u00dfe\r\n".encode()
BINARY = b"Subject: x\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\n.\r\n\xff"
numbers = itertools.count(1)


class CarriedTests(TestCase):
    def setUp(self) -> None:
        self.hop: ScriptedHop
        self.house: House

    async def send(
        self, hello: str, *recipients: str, spooled: bool = False, **more: Any
    ) -> list[tuple[str, str, str]]:
        """One message to a next hop that says this to EHLO; what stays in the queue."""
        self.hop = ScriptedHop(self, EHLO=hello, **more.pop("script", {}))
        self.house = House(self, LOCAL, forward(self.hop.port, recipients="*"))
        content = more.pop("octets", EIGHT)
        one: Message = message(
            next(numbers), *(recipients or ("b@y.test",)), octets=None if spooled else content, rule="out",
            received=time.time(), sender=more.pop("sender", "a@local.test"), **more,
        )  # fmt: skip
        if spooled:
            object.__setattr__(one, "size", len(content))
            spool_path(self.house.mta._store.spool, one.id).write_bytes(content)
        await self.house.mta._queue.put(one)
        await self.house.idle()
        rows = await self.house.queue()
        return [(row["recipient"], row["state"], row["reply"]) for row in rows]

    def carried(self) -> tuple[list[str], bytes]:
        ((envelope, content),) = self.hop.messages
        return envelope, content

    async def test_eight_bits_go_as_they_are_where_they_may(self) -> None:
        """BODY=8BITMIME, and the same octets. RFC 6152 2."""
        await self.send(ALL, eightbit=True)
        self.assertEqual(self.carried(), (["MAIL FROM:<a@local.test> BODY=8BITMIME", "RCPT TO:<b@y.test>"], EIGHT))

    async def test_eight_bits_are_converted_where_they_may_not(self) -> None:
        """From memory, and from a spool file. RFC 6152 3."""
        for spooled in (False, True):
            left = await self.send(NOTHING, eightbit=True, spooled=spooled)
            envelope, content = self.carried()
            self.assertEqual((left, envelope[0]), ([], "MAIL FROM:<a@local.test>"))
            self.assertTrue(content.isascii())
            self.assertIn(b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n", content)

    async def test_large_ones_are_converted_while_others_go_on(self) -> None:
        """A megabyte, in slices between which the reactor has its turn; it arrives whole. RFC 6152 3."""
        octets = EIGHT + "Gr\u00fc\u00dfe\r\n".encode() * 100_000
        left = await self.send(NOTHING, eightbit=True, octets=octets, spooled=True)
        content = self.carried()[1]
        self.assertEqual(left, [])
        self.assertTrue(content.isascii())
        self.assertEqual(content.count(b"Gr=C3=BC=C3=9Fe\r\n"), octets.count("Gr\u00fc\u00dfe\r\n".encode()))

    async def test_what_cannot_be_converted_comes_back(self) -> None:
        """5.6.3 with the reason, told to the sender. RFC 6152 3."""
        signed = b'Content-Type: multipart/signed; boundary="x"\r\n\r\n--x\r\n\r\n\xff\r\n--x\r\n\r\nsig\r\n--x--\r\n'
        await self.send(NOTHING, eightbit=True, octets=signed)
        await until(lambda: self.house.mails("a@local.test"))
        (notice,) = self.house.mails("a@local.test")
        self.assertIn(b"Status: 5.6.3\n", notice)
        self.assertIn(b"multipart/signed must not be", notice)
        self.patch(adaptation, "MOST", 10)
        await self.send(NOTHING, eightbit=True)
        await until(lambda: self.house.mails("a@local.test"))
        self.assertIn(b"more than 10 octets", self.house.mails("a@local.test")[0])
        self.assertEqual(self.hop.messages, [])

    async def test_binary_goes_in_a_chunk_octet_for_octet(self) -> None:
        """Dots and bare line ends too, from memory and from a file, large ones too. RFC 3030 2, 3."""
        for content in (BINARY, BINARY + bytes(range(256)) * 4000):
            for spooled in (False, True):
                left = await self.send(ALL, octets=content, binary=True, eightbit=True, spooled=spooled)
                envelope, got = self.carried()
                self.assertEqual((left, envelope[0]), ([], "MAIL FROM:<a@local.test> BODY=BINARYMIME"))
                self.assertTrue(got == content)
                self.assertIn(f"BDAT {len(content)} LAST", self.hop.commands)

    async def test_binary_is_converted_where_chunks_are_not_taken(self) -> None:
        """Into base64, from which the same octets come. RFC 3030 3."""
        for hello in (NOTHING, "250-next\r\n250 8BITMIME", ALL.replace("250-CHUNKING\r\n", "")):
            left = await self.send(hello, octets=BINARY, binary=True, eightbit=True)
            self.assertEqual(left, [])
            self.assertIn(b"Content-Transfer-Encoding: base64\r\n\r\nAAouDQr/\r\n", self.carried()[1])

    async def test_utf8_goes_to_who_takes_it(self) -> None:
        """Addresses as they are. RFC 6531 3.1."""
        await self.send(ALL, "\u00fc@\u00e4.test", terms=Terms(smtputf8=True), eightbit=True)
        self.assertEqual(
            self.carried()[0], ["MAIL FROM:<a@local.test> BODY=8BITMIME SMTPUTF8", "RCPT TO:<\u00fc@\u00e4.test>"]
        )

    async def test_what_does_not_need_utf8_goes_without(self) -> None:
        """Domains as A-labels; only the recipient that needs more is refused. RFC 6531 3.2, 3.6."""
        left = await self.send(
            "250-next\r\n250 8BITMIME", "b@\u00e4.test", "\u00fc@y.test", "c@y.test",
            terms=Terms(smtputf8=True), eightbit=True, sender="",
        )  # fmt: skip
        self.assertEqual(
            self.carried()[0], ["MAIL FROM:<> BODY=8BITMIME", "RCPT TO:<b@xn--4ca.test>", "RCPT TO:<c@y.test>"]
        )
        ((address, state, reply),) = left
        self.assertEqual((address, state, reply[:9]), ("\u00fc@y.test", "failed", "553 5.6.7"))

    async def test_what_needs_utf8_fails_without(self) -> None:
        """A sender or a header in UTF-8: 5.6.7 for all. RFC 6531 3.6."""
        for sender, octets in (("", "Subject: \u00fc\r\n\r\n".encode()), ("j\u00f6@local.test", EIGHT)):
            await self.send(NOTHING, terms=Terms(smtputf8=True), octets=octets, eightbit=True, sender=sender)
            self.assertEqual(self.hop.messages, [])
            outcomes = [event for event in self.house.done if event.recipient == "b@y.test"]
            self.assertEqual([(event.outcome, event.reply[:9]) for event in outcomes], [("failed", "553 5.6.7")])

    async def test_a_notification_in_utf8_gets_through_without(self) -> None:
        """Its own header and its recipient are ASCII: what it tells of UTF-8 is encoded, part by part. RFC 6533 4."""
        await self.send(NOTHING, "\u00fc@y.test", terms=Terms(smtputf8=True), eightbit=True, sender="a@else.test")
        await until(lambda: self.hop.messages)
        envelope, content = self.carried()
        self.assertEqual(envelope, ["MAIL FROM:<>", "RCPT TO:<a@else.test>"])
        self.assertTrue(content.isascii())
        self.assertIn(b"Content-Type: message/global-delivery-status\r\n", content)
        self.assertIn(b"\r\nFinal-Recipient: utf-8; =C3=BC@y.test\r\n", content)

    async def test_success_is_told_where_the_next_hop_does_not(self) -> None:
        """DSN passed on: nothing from us; else `relayed`, with what the sender called things. RFC 3461 5.2.1, 5.2.2."""
        terms = Terms(envid="e+1", ret="headers")
        asked = {"notify": "SUCCESS,FAILURE", "orcpt": "rfc822;x@y.test"}
        await self.send(ALL, terms=terms, asked=asked)
        self.assertEqual(
            self.carried()[0],
            [
                "MAIL FROM:<a@local.test> RET=HDRS ENVID=e+2B1",
                "RCPT TO:<b@y.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@y.test",
            ],
        )
        self.assertEqual(self.house.mta.status()["notices"], 0)
        await self.send(NOTHING, terms=terms, asked=asked)
        self.assertEqual(self.carried()[0][1], "RCPT TO:<b@y.test>")
        await until(lambda: self.house.mails("a@local.test"))
        (notice,) = self.house.mails("a@local.test")
        for line in (b"Action: relayed", b"Original-Envelope-Id: e+1", b"Original-Recipient: rfc822; x@y.test"):
            self.assertIn(b"\n" + line + b"\n", notice)

    async def test_success_is_told_by_who_delivers(self) -> None:
        """`delivered`, into a Maildir of ours and by LMTP to a server that does not tell. RFC 3461 5.2.4, 6.2."""
        for house, rule in (
            (House(self, LOCAL), "local"),
            (House(self, LOCAL, self.by_lmtp()), "lmtp"),
        ):
            one = message(
                next(numbers), "b@local.test", octets=b"Subject: x\r\n\r\n", rule=rule, received=time.time(),
                sender="a@local.test", asked={"notify": "SUCCESS"},
            )  # fmt: skip
            await house.mta._queue.put(one)
            await until(lambda house=house: house.mails("a@local.test"))
            self.assertIn(b"\nAction: delivered\n", house.mails("a@local.test")[0])

    def by_lmtp(self) -> Rule:
        hop = ScriptedHop(self, lmtp=True, LHLO=NOTHING)
        place = HostPort("127.0.0.1", hop.port)
        return Rule(name="lmtp", match=RuleMatch(recipients=("*@else.test",)), action=Deliver(lmtp=place))
