"""Command lines: names, senders, recipients."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.smtp.command import Sender, parse_greeting, parse_mail, parse_recipient


class CommandTests(SynchronousTestCase):
    def test_mail_gives_sender_size_and_body(self) -> None:
        """What was declared, and nothing that was not."""
        self.assertEqual(parse_mail("FROM:<a@b.example>"), Sender("a@b.example", None, False))
        self.assertEqual(parse_mail("FROM:<> SIZE=12 BODY=8BITMIME"), Sender("", 12, True))

    def test_rcpt_gives_the_address(self) -> None:
        """Spaces behind the colon are tolerated."""
        self.assertEqual(parse_recipient("TO:  <a@b.example>"), "a@b.example")

    def test_names_of_clients(self) -> None:
        """Names, underscores, a final dot and literals pass; what could leave a Received field does not."""
        for name in ("c", "c.example", "my_host", "c.example.", "[192.0.2.1]", "[IPv6:::1]"):
            self.assertEqual(parse_greeting(name), name)
        for name in ("", "a b", "a\tb", "(x)", "a<b>", "[a;b]", "x" * 300, "x" + "." * 300, "\u00fc"):
            self.assertRaises(WireError, parse_greeting, name)

    @given(st.text(max_size=80))
    def test_no_text_breaks_the_parsers(self, text: str) -> None:
        """A value, or WireError with a reply."""
        for parse, word in ((parse_mail, "FROM:"), (parse_recipient, "TO:"), (parse_greeting, "")):
            for argument in (text, word + text, f"{word}<a@b> {text}"):
                try:
                    parse(argument)
                except WireError as error:
                    self.assertIsNotNone(error.reply)
