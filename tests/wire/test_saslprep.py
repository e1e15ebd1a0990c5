"""SASLprep, by the examples of its RFC."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.saslprep import saslprep


class SaslprepTests(SynchronousTestCase):
    def test_the_examples_of_rfc_4013(self) -> None:
        """Section 3."""
        for text, prepared in (
            ("I\u00adX", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u00aa", "a"),
            ("\u2168", "IX"),
        ):
            self.assertEqual(saslprep(text), prepared)
        for text in ("\u0007", "\u0627\u0031"):
            self.assertRaises(ValueError, saslprep, text)

    def test_spaces_and_directions(self) -> None:
        """Any space is a space (2.1); right to left is whole or not at all (2.4); what Unicode 3.2 has not is none."""
        self.assertEqual(saslprep("a\u00a0b"), "a b")
        self.assertEqual(saslprep("\u0627\u0628"), "\u0627\u0628")
        for text in ("\u0627a\u0628", "\U0001f600", "a\u200e", "\ue000"):
            self.assertRaises(ValueError, saslprep, text)

    @given(st.text(max_size=20))
    def test_once_is_enough(self, text: str) -> None:
        """Prepared text stays as it is, and errors tell nothing of it."""
        try:
            prepared = saslprep(text)
        except ValueError as error:
            self.assertTrue(str(error).startswith("it "))
        else:
            self.assertEqual(saslprep(prepared), prepared)
