"""Mail of strangers on loopback, checked against a DNS server of the test: what the recipient is told of it."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import dkim
from attrs import evolve
from twisted.trial.unittest import TestCase

from dcrouter.config.authentication import AuthenticationResults
from dcrouter.config.rules import Deliver, Rule, RuleMatch
from dcrouter.mail.message import IN_MEMORY
from tests.mail.house import HOSTNAME, LOCAL, House, dialogue, in_thread
from tests.support.facts import until
from tests.support.nameserver import SILENT, Nameserver
from tests.wire.dkim.signed import ed25519_key, rsa_key, sign

CLIENT = ("192.0.2.1", 40000)
STRANGER = ("198.51.100.1", 40000)
MESSAGE = b"From: Joe <joe@x.test>\r\nTo: b@local.test\r\nSubject: x\r\n\r\nHi.\r\n"


class ReceivedTests(TestCase):
    def setUp(self) -> None:
        self.dns = Nameserver(self)
        self.dns.add("x.test", "TXT", '"v=spf1 ip4:192.0.2.0/24 -all"')
        self.dns.add("1.2.0.192.in-addr.arpa", "PTR", "mx.x.test.")
        self.dns.add("mx.x.test", "A", "192.0.2.1")
        self.dns.add("_dmarc.x.test", "TXT", '"v=DMARC1; p=reject"')
        record = rsa_key()[1]
        self.dns.add("s._domainkey.x.test", "TXT", f'"{record[:200]}" "{record[200:]}"')
        self.dns.add("e._domainkey.x.test", "TXT", f'"{ed25519_key()[1]}"')

    def house(self, *rules: Rule, timeout: float = 5.0, **how: Any) -> House:
        checks = AuthenticationResults(**how)
        return House(self, *rules, resolver=self.dns.config(timeout=timeout), authentication_results=checks)

    async def deliver(
        self,
        house: House,
        message: bytes = MESSAGE,
        sender: str = "joe@x.test",
        peer: tuple[str, int] = CLIENT,
        kind: str = "smtp",
    ) -> bytes:
        """The reply to the message; then everything delivered so far is in the Maildir."""
        port = house.listen(kind, peer)
        head = ("EHLO mx.x.test", f"MAIL FROM:<{sender}>", "RCPT TO:<b@local.test>", "DATA")
        replies = await in_thread(dialogue, port, *head, message + b".\r\n")
        await house.idle()
        return replies[-1]

    def mail(self, house: House) -> bytes:
        """The only one; a Maildir has lines that end with LF."""
        (mail,) = house.mails("b@local.test")
        return mail.replace(b"\n", b"\r\n")

    async def received(self, house: House, message: bytes = MESSAGE, **more: Any) -> tuple[str, bytes]:
        """(our field with its folding undone and without filling, all that was delivered)."""
        reply = await self.deliver(house, message, **more)
        self.assertTrue(reply.startswith(b"250 "), reply)
        mail = self.mail(house)
        begin = mail.index(b"Authentication-Results: " + HOSTNAME.encode())
        field = mail[begin : mail.index(b"\r\nReceived: ", begin)]
        return b" ".join(field.replace(b"\r\n", b" ").split()).decode(), mail

    async def test_all_is_told_in_one_field_above_received(self) -> None:
        """SPF, DKIM, DMARC and iprev that pass, each with what it looked at (RFC 8601 2)."""
        signed = sign(MESSAGE)
        private, _ = ed25519_key()
        twice = sign(signed, privkey=private, signature_algorithm=b"ed25519-sha256", selector=b"e")
        field, mail = await self.received(self.house(), twice)
        for part in (
            "iprev=pass (mx.x.test) policy.iprev=192.0.2.1;",
            "spf=pass smtp.mailfrom=joe@x.test;",
            "dkim=pass header.d=x.test header.s=e header.a=ed25519-sha256 header.b=",
            "dkim=pass header.d=x.test header.s=s header.a=rsa-sha256 header.b=",
            "dmarc=pass (p=reject) header.from=x.test",
        ):
            self.assertIn(part, field)
        self.assertNotIn(" arc=", field)
        self.assertEqual(mail.count(b"Authentication-Results:"), 1)
        self.assertTrue(mail.endswith(twice))

    async def test_a_large_message_has_it_too(self) -> None:
        """One that is in a file before it is all here; and is otherwise as it came."""
        large = sign(MESSAGE + b"All work and no play makes Jack a dull boy.\r\n" * (3 * IN_MEMORY // 45))
        forged = b"Authentication-Results: " + HOSTNAME.encode() + b"; spf=pass smtp.mailfrom=ceo@x.test\r\n"
        field, mail = await self.received(self.house(), forged + large)
        self.assertIn("dkim=pass header.d=x.test", field)
        self.assertIn("dmarc=pass", field)
        self.assertTrue(mail.endswith(large))
        self.assertNotIn(b"ceo@x.test", mail)
        self.assertLess(max(map(len, mail.split(b"\r\n"))), 999)

    async def test_forged_results_go_and_others_stay(self) -> None:
        """RFC 8601 5; where nothing is checked, too."""
        ours = b"Authentication-Results: " + HOSTNAME.upper().encode() + b"; dmarc=pass\r\n"
        theirs = b"Authentication-Results: mx.other.test; dmarc=fail\r\n"
        house = self.house(spf=False, dkim=False, dmarc="ignore", arc=False, iprev=False)
        await self.deliver(house, ours + theirs + MESSAGE)
        mail = self.mail(house)
        self.assertTrue(mail.endswith(theirs + MESSAGE))
        self.assertEqual(mail.count(b"Authentication-Results:"), 1)
        self.assertEqual(self.dns.questions, [])

    async def test_rules_see_what_was_found(self) -> None:
        """A rule that asks for our field meets what DMARC fails, small or large; a forged one leads nowhere."""
        wanted = {"Authentication-Results": f"re:{HOSTNAME};.*\\sdmarc=fail\\s.*".replace(".", "\\.", 2)}
        junk = Rule(name="junk", match=RuleMatch(headers=wanted), action=Deliver(maildir="junk/{recipient}"))
        house = self.house(junk, LOCAL)
        forged = b"Authentication-Results: " + HOSTNAME.encode() + b"; x=y\r\n dmarc=fail (p=none)\r\n"
        large = MESSAGE + b"All work and no play makes Jack a dull boy.\r\n" * (3 * IN_MEMORY // 45)
        for message, peer in ((MESSAGE, STRANGER), (large, STRANGER), (forged + MESSAGE, CLIENT)):
            reply = await self.deliver(house, message, peer=peer)
            self.assertTrue(reply.startswith(b"250 "), reply)
        await until(lambda: len(house.done) == 3)
        self.assertEqual(sorted(one.rule for one in house.done), ["junk", "junk", "local"])

    async def test_a_sender_that_takes_no_mail_is_refused(self) -> None:
        """RFC 7505 4.2: 550 5.7.27, from strangers with SPF checked only; a null MX beside others is none, and where
        DNS says nothing, or for `<>`, mail is taken."""
        self.dns.add("no.test", "MX", "0 .")
        self.dns.add("some.test", "MX", "0 .", "10 mx.some.test.")
        self.dns.behave(SILENT, "silent.test", "MX")
        house = self.house(timeout=2.0)
        for sender, code in (
            ("a@no.test", b"550 5.7.27 no.test "),
            ("a@NO.test", b"550 5.7.27 "),
            ("a@some.test", b"250 "),
            ("a@[192.0.2.1]", b"250 "),
            ("a@absent.test", b"250 "),
            ("a@silent.test", b"250 "),
            ("", b"250 "),
        ):
            reply = await self.deliver(house, sender=sender)
            self.assertTrue(reply.startswith(code), (sender, reply))
        reply = await self.deliver(self.house(spf=False, dmarc="ignore"), sender="a@no.test")
        self.assertTrue(reply.startswith(b"250 "), reply)

    async def test_what_a_policy_rejects_is_refused(self) -> None:
        """dmarc: enforce; 550 5.7.26 at the end of data, and nothing is kept. With monitor it is told only."""
        house = self.house(dmarc="enforce")
        reply = await self.deliver(house, peer=STRANGER)
        self.assertTrue(reply.startswith(b"550 5.7.26 x.test "), reply)
        twice = b"From: eve@y.test\r\n" + MESSAGE
        reply = await self.deliver(house, twice)
        self.assertTrue(reply.startswith(b"550 5.7.1 From "), reply)
        self.assertEqual(house.mails("b@local.test"), [])
        field, _ = await self.received(self.house(), peer=STRANGER)
        self.assertIn("spf=fail smtp.mailfrom=joe@x.test", field)
        self.assertIn("dmarc=fail (p=reject) header.from=x.test", field)

    async def test_a_large_message_is_refused_too(self) -> None:
        """Its file goes."""
        house = self.house(dmarc="enforce")
        reply = await self.deliver(house, MESSAGE + b"x" * 76 + b"\r\n" * IN_MEMORY, peer=STRANGER)
        self.assertTrue(reply.startswith(b"550 5.7.26 x.test "), reply)
        await until(lambda: not list(house.state.glob("mail/spool/*")))

    async def test_enforcing_takes_what_is_signed(self) -> None:
        """DKIM alone is enough; and a test (t=y), which makes reject quarantine, refuses nothing (RFC 9989 4.7)."""
        house = self.house(dmarc="enforce")
        reply = await self.deliver(house, sign(MESSAGE), peer=STRANGER)
        self.assertTrue(reply.startswith(b"250 "), reply)
        self.dns.add("_dmarc.x.test", "TXT", '"v=DMARC1; p=reject; t=y"')
        field, _ = await self.received(self.house(dmarc="enforce"), peer=STRANGER)
        self.assertIn("dmarc=fail (p=quarantine)", field)

    async def test_silence_of_dns_is_temperror(self) -> None:
        """Never a pass, and never a refusal."""
        self.dns.behave(SILENT)
        field, _ = await self.received(self.house(timeout=0.2, dmarc="enforce"), sign(MESSAGE))
        for part in ("iprev=temperror", "spf=temperror", "dkim=temperror", "dmarc=temperror"):
            self.assertIn(part, field)
        self.assertNotIn("=pass", field)
        self.assertNotIn("127.0.0.1", field)

    async def test_the_null_sender_is_checked_by_its_helo(self) -> None:
        """RFC 7208 2.4; DMARC takes that as SPF's identity."""
        self.dns.add("mx.x.test", "TXT", '"v=spf1 a -all"')
        field, _ = await self.received(self.house(), sender="")
        self.assertIn("spf=pass smtp.helo=mx.x.test;", field)
        self.assertIn("dmarc=pass", field)

    async def test_a_chain_is_told(self) -> None:
        """ARC, by its last sealer; one that does not hold any more is told as well (RFC 8617 5.2)."""
        passed_on = b"Authentication-Results: arc.x.test; spf=pass\r\n" + MESSAGE
        chained = b"".join(dkim.arc_sign(passed_on, b"s", b"x.test", rsa_key()[0], b"arc.x.test")) + passed_on
        field, mail = await self.received(self.house(), chained)
        self.assertTrue(field.endswith("; arc=pass header.d=x.test"), field)
        self.assertTrue(mail.endswith(chained))
        field, _ = await self.received(self.house(), chained + b"more\r\n")
        self.assertTrue(field.endswith("; arc=fail (message signature 1: the body has changed)"), field)

    async def test_a_reload_counts_from_the_next_message_on(self) -> None:
        """Of a session that is there, too."""
        house = self.house()
        reply = await self.deliver(house, peer=STRANGER)
        self.assertTrue(reply.startswith(b"250 "), reply)
        email = evolve(house.email, authentication_results=AuthenticationResults(dmarc="enforce"))
        to = house.mta.succession(evolve(house.config, email=email), {})
        house.mta.reload(to, house.chooser, house.heard)
        reply = await self.deliver(house, peer=STRANGER)
        self.assertTrue(reply.startswith(b"550 5.7.26 x.test "), reply)

    async def test_a_second_message_asks_nothing_again(self) -> None:
        """What is known of client and sender is kept."""
        house = self.house()
        await self.deliver(house)
        asked = len(self.dns.questions)
        await self.deliver(house)
        self.assertEqual(len(self.dns.questions), asked)

    async def test_who_may_relay_is_not_checked(self) -> None:
        """Only strangers are."""
        house = House(
            self,
            resolver=self.dns.config(),
            authentication_results=AuthenticationResults(),
            trusted=(ip_network("192.0.2.0/24"),),
        )
        await self.deliver(house)
        self.assertEqual(self.dns.questions, [])
        self.assertNotIn(b"Authentication-Results", house.mails("b@local.test")[0])

    async def test_a_client_that_goes_away_is_no_harm(self) -> None:
        """While DNS is awaited; nothing is left of its message."""
        self.dns.behave(SILENT)
        house = self.house(timeout=30.0)
        port = house.listen("smtp", CLIENT)
        lines = ["EHLO mx.x.test", "MAIL FROM:<joe@x.test>", "RCPT TO:<b@local.test>", "DATA"]
        await in_thread(dialogue, port, *lines)
        await house.mta.drain(20.0)
        self.assertEqual(house.mails("b@local.test"), [])
