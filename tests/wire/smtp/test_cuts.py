"""Whatever clients say, however it is cut: the server machine against itself, as the fuzzer drives it."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from bench.fuzz.session import session

LINES = [
    b"EHLO c\r\n", b"HELO c\r\n", b"MAIL FROM:<a@x.example>\r\n", b"MAIL FROM:<> BODY=BINARYMIME SIZE=9\r\n",
    b"MAIL FROM:<\xc3\xbc@x.example> SMTPUTF8\r\n", b"RCPT TO:<b@y.example>\r\n", b"DATA\r\n", b"text\r\n", b"..\r\n",
    b".\r\n", b"\n.\n", b"\r.\r\n", b"BDAT 6\r\n", b"BDAT 6 LAST\r\n", b"BDAT 0 LAST\r\n", b"BDAT x\r\n", b"RSET\r\n",
    b"NOOP\r\n", b"VRFY a\r\n", b"AUTH PLAIN AGEAYg==\r\n", b"AUTH LOGIN\r\n", b"*\r\n", b"QUIT\r\n", b"\0\xff\r\n",
    b"XCLIENT ADDR=192.0.2.1\r\n", b"x" * 3000 + b"\r\n", b"\r", b"\n",
]  # fmt: skip
STREAMS = st.lists(st.sampled_from(LINES), max_size=30).map(b"".join)
START = b"EHLO c\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\n"


class CutTests(SynchronousTestCase):
    @given(STREAMS, st.booleans(), st.lists(st.integers(0, 9000), max_size=12))
    def test_cuts_change_nothing(self, stream: bytes, tls: bool, cuts: list[int]) -> None:
        """The same replies, messages and end; but where a cut tells a client that waits from one that does not."""
        stream = START + stream
        edges = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
        whole = session([stream], tls=tls)
        pieces = session([stream[begin:end] for begin, end in pairwise(edges)], tls=tls)
        if b"554 5.5.0" not in whole[0] + pieces[0]:
            self.assertEqual(whole, pieces)

    @given(STREAMS, st.booleans())
    def test_replies_are_whole_lines(self, stream: bytes, strict: bool) -> None:
        """With a code, and with an enhanced one where RFC 2034 asks for it."""
        for begin in (b"", START):
            replies, _, _ = session([begin + stream], strict=strict)
            self.assertIsNotNone(re.fullmatch(rb"(?:[2-5]\d\d[ -][^\r\n]*\r\n)*", replies))
            for line in replies.splitlines():
                if line[:1] in b"45":
                    self.assertRegex(line, rb"^([45])\d\d \1\.\d+\.\d+ ")
