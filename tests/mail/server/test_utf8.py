"""SMTPUTF8 over real connections: who is meant, what is kept of it, what is refused. RFC 6531."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dcrouter.config.rules import Rule, RuleMatch
from dcrouter.mail.message import Message
from tests.mail.house import LOCAL, House, dialogue, in_thread
from tests.support.facts import until

TEXT = b"Subject: x\r\n\r\nx\r\n.\r\n"
UTF8_TEXT = "Subject: gr\u00fc\u00df\r\n\r\nx\r\n.\r\n".encode()


def line(text: str) -> bytes:
    return text.encode() + b"\r\n"


class Utf8Tests(TestCase):
    async def test_both_forms_of_a_domain_are_one(self) -> None:
        """RFC 5891: a rule that is written with U-labels or A-labels takes recipients written with either."""
        for domain in ("b\u00fccher.test", "xn--bcher-kva.test"):
            rule = Rule(name="one", match=RuleMatch(recipients=(f"*@{domain}",)), action=LOCAL.action)
            house = House(self, rule)
            for number, recipient in enumerate(("b@b\u00fccher.test", "b@xn--bcher-kva.test", "b@B\u00dcCHER.test"), 1):
                replies = await in_thread(
                    dialogue, house.listen(), "EHLO c", "MAIL FROM:<a@x.test> SMTPUTF8", line(f"RCPT TO:<{recipient}>"),
                    "DATA", TEXT,
                )  # fmt: skip
                self.assertEqual(replies[-1][:3], b"250", recipient)
                await until(lambda house=house, number=number: len(house.mails("b@xn--bcher-kva.test")) == number)
            self.assertIn(b" with UTF8SMTP id ", house.mails("b@xn--bcher-kva.test")[0])
            await house.close()

    async def test_what_a_message_needs_of_the_next_hop(self) -> None:
        """Only what is beyond ASCII makes it a message for hops with SMTPUTF8, whatever MAIL said."""
        rule = Rule(name="hold", match=RuleMatch(recipients=("*@*",)), action=LOCAL.action)
        house = House(self, rule)
        kept: list[Message] = []
        keep = house.sessions.keep

        def noted(message: Message) -> Deferred[None]:
            kept.append(message)
            return keep(message)

        self.patch(house.sessions, "keep", noted)
        for sender, recipient, text, needs in (
            ("a@x.test", "b@local.test", TEXT, False),
            ("a@x.test", "b@b\u00fccher.test", TEXT, False),
            ("\u00fc@x.test", "b@local.test", TEXT, True),
            ("", "\u00fc@local.test", TEXT, True),
            ("a@x.test", "b@local.test", UTF8_TEXT, True),
        ):
            replies = await in_thread(
                dialogue, house.listen(), "EHLO c", line(f"MAIL FROM:<{sender}> SMTPUTF8"),
                line(f"RCPT TO:<{recipient}>"), "DATA", text,
            )  # fmt: skip
            self.assertEqual(replies[-1][:3], b"250", (sender, recipient, replies))
            self.assertEqual(kept[-1].envelope.terms.smtputf8, needs, (sender, recipient))
        await house.idle()

    async def test_without_the_keyword_nothing_is_beyond_ascii(self) -> None:
        """Neither addresses (553 5.6.7) nor the header (554 5.6.9, at its end, by DATA and by BDAT); the body may."""
        house = House(self)
        start = ("EHLO c", "MAIL FROM:<a@x.test>", "RCPT TO:<b@local.test>")
        replies = await in_thread(dialogue, house.listen(), *start, line("RCPT TO:<\u00fc@local.test>"))
        self.assertEqual(replies[-1][:9], b"553 5.6.7")
        replies = await in_thread(dialogue, house.listen(), *start, "DATA", UTF8_TEXT)
        self.assertEqual(replies[-1][:9], b"554 5.6.9")
        chunk = UTF8_TEXT[:-3]
        replies = await in_thread(dialogue, house.listen(), *start, b"BDAT %d LAST\r\n%b" % (len(chunk), chunk))
        self.assertEqual(replies[-1][:9], b"554 5.6.9")
        body = "Subject: x\r\n\r\ngr\u00fc\u00df\r\n.\r\n".encode()
        replies = await in_thread(dialogue, house.listen(), *start, "DATA", body)
        self.assertEqual(replies[-1][:3], b"250")
        await until(lambda: house.mails("b@local.test"))
