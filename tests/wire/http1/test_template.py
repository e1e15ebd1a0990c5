"""Text with placeholders."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.http1.template import parse, printable


class TemplateTests(SynchronousTestCase):
    def test_pieces_are_in_order(self) -> None:
        """Text and the placeholder behind it; doubled braces are text."""
        self.assertEqual(parse("", ("a",)), (("", ""),))
        self.assertEqual(parse("x", ("a",)), (("x", ""),))
        self.assertEqual(parse("{a}{b}!", ("a", "b")), (("", "a"), ("", "b"), ("!", "")))
        self.assertEqual(parse('{{"a":"{a}"}}', ("a",)), (('{"a":"', "a"), ('"}', "")))

    @given(st.text("{}ab", max_size=12))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        """Nothing else happens, and nothing is lost but one brace of two."""
        try:
            pieces = parse(text, ("a", "b"))
        except ValueError:
            return
        again = "".join(
            plain.replace("{", "{{").replace("}", "}}") + (f"{{{name}}}" if name else "") for plain, name in pieces
        )
        self.assertEqual(again, text)

    @given(st.text())
    def test_what_is_printable_can_be_a_field(self, text: str) -> None:
        """Visible ASCII and spaces, whatever it was."""
        made = printable(text)
        self.assertTrue(made.isascii() and (not made or made.isprintable()))
