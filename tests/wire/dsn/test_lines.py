"""Lines of a header: folded, cut at whole fields."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.dsn.lines import MAX_LINE, folded, header_of


class LinesTests(SynchronousTestCase):
    @given(st.text(max_size=3000))
    def test_folded_lines_say_the_same(self, text: str) -> None:
        """Lines of printable ASCII, continued with a space; without the folds the words are all there."""
        lines = folded(f"Field: {text}")
        self.assertTrue(all(line.startswith(" ") and line.strip() for line in lines[1:]), lines)
        self.assertTrue(all(line.isascii() and len(line) <= MAX_LINE for line in lines))
        words = "".join("".join(lines).split())
        printable = "".join(char for char in text if "!" <= char <= "~")
        self.assertEqual(words.replace("?", ""), f"Field:{printable}".replace("?", ""))

    def test_a_line_is_folded_at_a_space(self) -> None:
        """At 76 octets, or later where there is none."""
        self.assertEqual(folded("X: short"), ["X: short"])
        long = "X: " + " ".join(["word"] * 40)
        self.assertTrue(all(len(line) <= 77 for line in folded(long)))
        self.assertEqual("".join(folded(long)), long)
        self.assertEqual(folded("To: <" + "x" * 90 + ">"), ["To:", " <" + "x" * 90 + ">"])

    def test_the_header_ends_at_its_empty_line(self) -> None:
        """Or at the last whole field, where the end is not there."""
        self.assertEqual(header_of(b"A: 1\r\nB: 2\r\n\r\nbody\r\n\r\n"), b"A: 1\r\nB: 2\r\n")
        self.assertEqual(header_of(b"\r\nbody"), b"")
        self.assertEqual(header_of(b""), b"")
        self.assertEqual(header_of(b"A: 1\r\nB: 2\r\nC"), b"A: 1\r\nB: 2\r\n")
        self.assertEqual(header_of(b"A: 1\r\nB: 2\r\n\tmore"), b"A: 1\r\n")
        self.assertEqual(header_of(b"A: 1\r\nB: 2\r\n 3\r\n"), b"A: 1\r\nB: 2\r\n 3\r\n")
        self.assertEqual(header_of(b"no line at all"), b"")
