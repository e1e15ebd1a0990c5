"""Command lines: names, senders, recipients."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.smtp.command import Sender, parse_auth, parse_greeting, parse_mail, parse_recipient
from dcrouter.wire.smtp.parameters import NO_REPORT


class CommandTests(SynchronousTestCase):
    def test_mail_gives_sender_size_and_body(self) -> None:
        """What was declared, and nothing that was not."""
        self.assertEqual(parse_mail("FROM:<a@b.example>"), Sender("a@b.example", None, False))
        self.assertEqual(parse_mail("FROM:<> SIZE=12 BODY=8BITMIME"), Sender("", 12, True))

    def test_rcpt_gives_the_address(self) -> None:
        """Spaces behind the colon are tolerated."""
        self.assertEqual(parse_recipient("TO:  <a@b.example>"), ("a@b.example", NO_REPORT))

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


class AuthTests(SynchronousTestCase):
    def test_auth_names_a_mechanism(self) -> None:
        """`=` is an empty response, nothing is none."""
        self.assertEqual(parse_auth("plain"), ("PLAIN", None))
        self.assertEqual(parse_auth("LOGIN ="), ("LOGIN", b""))
        self.assertEqual(parse_auth("PLAIN AGEAYg=="), ("PLAIN", b"\0a\0b"))
        for argument in ("", "PLAIN x", "PLAIN AGEAYg== x"):
            self.assertRaises(WireError, parse_auth, argument)

    def test_who_first_submitted_must_be_well_formed(self) -> None:
        """RFC 4954 5: `<>` or a mailbox in xtext; then it is ignored."""
        for value in ("<>", "e+3Dmc2@example.com", "a@b.example", "+3C+3E"):
            self.assertEqual(parse_mail(f"FROM:<a@b.example> AUTH={value}"), Sender("a@b.example", None, False))
        for value in ("", "a", "a@b c", "a+3@b.example", "a+0D@b.example", "<> AUTH=<>", "\u00fc@b.example"):
            error = self.assertRaises(WireError, parse_mail, f"FROM:<a@b.example> AUTH={value}")
            self.assertIn((error.reply or b"")[:9], (b"501 5.5.4", b"555 5.5.4"))
