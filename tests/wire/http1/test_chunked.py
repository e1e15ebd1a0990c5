"""Chunked bodies: what passes, in any pieces, and what is refused before anybody else has to read it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.http1.chunked import MAX_LINE, MAX_TRAILERS, ChunkReader

USUAL = b"5\r\nhello\r\n1A;name=value\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nX-Sum: 7\r\nContent-Length: 3\r\n\r\n"
PASSED = b"5\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nX-Sum: 7\r\n\r\n"
CONTENT = b"helloabcdefghijklmnopqrstuvwxyz"


def passed(*pieces: bytes, decode: bool = False) -> tuple[bytes, ChunkReader]:
    """What leaves for these pieces, up to the end of the body."""
    reader = ChunkReader(decode=decode)
    out = b""
    for at, piece in enumerate(pieces):
        out += reader.feed(piece)
        if reader.done:
            reader.rest += b"".join(pieces[at + 1 :])
            break
    return out, reader


class Passed(SynchronousTestCase):
    def test_usual(self) -> None:
        """Sizes are written anew, extensions and what has no business among trailers are gone; the rest is left."""
        out, reader = passed(USUAL + b"GET / HTTP/1.1\r\n")
        self.assertEqual(out, PASSED)
        self.assertTrue(reader.done)
        self.assertEqual(reader.rest, b"GET / HTTP/1.1\r\n")
        self.assertEqual(reader.size, len(CONTENT))

    def test_decoded(self) -> None:
        """Only the content, for HTTP/1.0."""
        self.assertEqual(passed(USUAL, decode=True)[0], CONTENT)

    def test_cut_at_every_byte(self) -> None:
        """The same in any two pieces, and byte by byte."""
        data = USUAL + b"next"
        for cut in range(len(data)):
            out, reader = passed(data[:cut], data[cut:])
            self.assertEqual((out, reader.rest), (PASSED, b"next"), cut)
        out, reader = passed(*(data[at : at + 1] for at in range(len(data))))
        self.assertEqual((out, reader.rest), (PASSED, b"next"))

    def test_an_empty_body(self) -> None:
        """Zeros may be many, as long as the line is not."""
        for data in (b"0\r\n\r\n", b"000\r\n\r\n", b"0;x\r\n\r\n", b"0 ;x=y\r\n\r\n"):
            out, reader = passed(data)
            self.assertEqual((out, reader.done, reader.rest), (b"0\r\n\r\n", True, b""))

    def test_large_chunks_pass_as_they_are(self) -> None:
        """Octets inside of a chunk are not looked at."""
        reader = ChunkReader()
        self.assertEqual(reader.feed(b"100000\r\n"), b"100000\r\n")
        piece = b"\r\n0\r\n\r\n" * 1000
        self.assertIs(reader.feed(piece), piece)
        self.assertFalse(reader.done)

    @settings(max_examples=200)
    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
    def test_any_content_in_any_pieces(self, chunks: list[bytes], data: st.DataObject) -> None:
        """What is decoded is what was said."""
        raw = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=4)))
        pieces = [raw[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        self.assertEqual(passed(*pieces, decode=True)[0], b"".join(chunks))
        self.assertEqual(passed(*pieces)[0], raw)


class Refused(SynchronousTestCase):
    def refused(self, data: bytes) -> None:
        """At once, and byte by byte."""
        self.assertRaises(WireError, ChunkReader().feed, data)
        reader = ChunkReader()
        for at in range(len(data)):
            try:
                reader.feed(data[at : at + 1])
            except WireError:
                return
            self.assertFalse(reader.done, data)
        self.fail(f"taken byte by byte: {data!r}")

    def test_sizes_that_are_none(self) -> None:
        """Whatever some reader or other has been seen to take for one."""
        for line in (
            b"",
            b" 5",
            b"\t5",
            b"+5",
            b"-5",
            b"0x5",
            b"5x",
            b"5 5",
            b"5,5",
            b"5_0",
            b"g",
            b"\x005",
            b"1" * 16,
            b"fffffffffffffffff",
            b"5\r",
            b"5;a\nb",
            b"5;a\rb",
            b"5;a\x00",
            b"5;" + b"x" * MAX_LINE,
        ):
            self.refused(line + b"\r\nhello\r\n0\r\n\r\n")

    def test_line_ends(self) -> None:
        """A bare LF or CR ends nothing (the terminators of 2025's TERM and EXT attacks)."""
        for data in (
            b"5\nhello\r\n0\r\n\r\n",
            b"5;\nhello\r\n0\r\n\r\n",
            b"5\rhello\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"5\r\nhello\r\r\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"4\r\nhello\r\n0\r\n\r\n",
            b"0\n\r\n",
            b"0\r\nX: y\n\r\n\r\n",
            b"0\r\nX: y\rZ: z\r\n\r\n",
        ):
            self.refused(data)

    def test_trailers_that_are_none(self) -> None:
        """Names are tokens, lines are fields, and all of them are not much."""
        for block in (b"X", b": y", b"X : y", b"X\x00: y", b" folded: y", b"X: y\r\n z", b"X: \x00"):
            self.refused(b"0\r\n" + block + b"\r\n\r\n")
        self.refused(b"0\r\n" + b"X: y\r\n" * MAX_TRAILERS)
