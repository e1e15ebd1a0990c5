"""Messages that are made to be expensive: bounded, answered, and nothing of them stays."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.mail.house import LOOPBACK, House, dialogue, in_thread
from tests.support.facts import until

START = ("EHLO c", "MAIL FROM:<a@x.test> BODY=8BITMIME", "RCPT TO:<b@local.test>", "DATA")
FIELDS = b"".join(b"X-%d: y\r\n" % number for number in range(100_000)) + b"\r\nx\r\n"
LINE = b"Subject: " + b"x" * 1_000_000 + b"\r\n\r\nx\r\n"
FOLDED = b"Subject: x\r\n" + (b" " + b"x" * 900 + b"\r\n") * 1100 + b"\r\nx\r\n"
NESTED = (
    b"MIME-Version: 1.0\r\n"
    + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (at, at) for at in range(10_000))
    + b"\r\n\xff\r\n"
)
BOMBS = {"fields": FIELDS, "line": LINE, "folded": FOLDED, "nested": NESTED, "NUL": b"Subject: \0\r\n\r\n"}


class BombTests(TestCase):
    async def send(self, house: House, kind: str) -> dict[str, bytes]:
        """The reply to each; a session that was answered 5xx goes on."""
        port = house.listen(kind)
        replies = {}
        for name, text in BOMBS.items():
            *_, reply, after = await in_thread(dialogue, port, *START, text + b".\r\n", "NOOP", timeout=240)
            self.assertEqual(after[:3], b"250", name)
            replies[name] = reply[:9]
        return replies

    async def test_where_a_header_is_read_it_is_bounded(self) -> None:
        """Of strangers, and of submission: 554 5.6.0 for 100 000 fields, and for a field of a megabyte, in one line or
        in a thousand; 10 000 parts within parts are only content.
        """
        expected = dict.fromkeys(BOMBS, b"554 5.6.0") | {"nested": b"250 2.0.0", "NUL": b"550 5.5.2"}
        house = House(self)
        replies = await self.send(house, "smtp")
        self.assertEqual(replies, expected)
        await house.close()
        house = House(self, trusted=LOOPBACK, require_tls="never")
        replies = await self.send(house, "submission")
        self.assertEqual(replies, expected)
        await until(lambda: house.mails("b@local.test") and not list((house.state / "mail" / "spool").iterdir()))

    async def test_where_nobody_reads_it_passes_as_it_is(self) -> None:
        """From who is trusted, on smtp: a header that nothing depends on costs only its length; a line too long and a
        NUL are refused there too.
        """
        house = House(self, trusted=LOOPBACK)
        replies = await self.send(house, "smtp")
        self.assertEqual((replies["line"], replies["NUL"]), (b"554 5.6.0", b"550 5.5.2"))
        self.assertEqual([replies[name][:3] for name in ("fields", "folded", "nested")], [b"250"] * 3, replies)
        await until(lambda: len(house.mails("b@local.test")) == 3)

    async def test_eight_bits_without_8bitmime(self) -> None:
        """RFC 6152 is about what is promised: a body beyond ASCII is kept as it came, whatever MAIL said."""
        house = House(self)
        text = "Subject: x\r\n\r\ngr\u00fc\u00df\r\n".encode()
        start = ("EHLO c", "MAIL FROM:<a@x.test>", "RCPT TO:<b@local.test>", "DATA")
        replies = await in_thread(dialogue, house.listen(), *start, text + b".\r\n")
        self.assertEqual(replies[-1][:3], b"250")
        await until(lambda: house.mails("b@local.test"))
        self.assertTrue(house.mails("b@local.test")[0].endswith(text.replace(b"\r\n", b"\n")))
