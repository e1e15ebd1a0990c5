"""Replies, written and read."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.smtp.reply import MAX_REPLY, Reply, ReplyReader, reply


class ReplyTests(SynchronousTestCase):
    def test_lines_are_marked_but_the_last(self) -> None:
        """RFC 5321 4.2.1: a hyphen on every line but the last."""
        self.assertEqual(reply(250, "a", "b"), b"250-a\r\n250 b\r\n")
        self.assertEqual(reply(250), b"250 \r\n")

    def test_a_text_cannot_leave_its_line(self) -> None:
        """What is echoed to a peer cannot become a reply of its own."""
        self.assertEqual(reply(550, "x\r\n250 ok\0"), b"550 x??250 ok?\r\n")

    def test_replies_are_read_at_every_cut(self) -> None:
        """The same replies, however they arrive; bare LF and missing text are tolerated."""
        stream = b"250-a\r\n250-b c\r\n250 d\r\n354\r\n550 5.1.1 no\n"
        expected = [
            Reply(code=250, lines=("a", "b c", "d")),
            Reply(code=354, lines=("",)),
            Reply(code=550, lines=("5.1.1 no",)),
        ]
        for cut in range(len(stream) + 1):
            reader = ReplyReader()
            self.assertEqual(reader.receive(stream[:cut]) + reader.receive(stream[cut:]), expected)

    def test_codes_and_texts(self) -> None:
        """The enhanced code is found where there is one; the text is all lines in one."""
        (one,) = ReplyReader().receive(b"550-5.7.1 no\r\n550 5.7.1 way\r\n")
        self.assertEqual((one.enhanced, one.text), ("5.7.1", "550 5.7.1 no 5.7.1 way"))
        self.assertIsNone(Reply(code=250, lines=("2.0 fine",)).enhanced)

    def test_what_is_no_reply_is_an_error(self) -> None:
        """HTTP, letters, codes out of range."""
        for line in (b"HTTP/1.1 400 Bad\r\n", b"\r\n", b"99 x\r\n", b"2500 x\r\n", b"650 x\r\n", b"250_x\r\n"):
            self.assertRaises(WireError, ReplyReader().receive, line)

    def test_a_reply_without_end_is_an_error(self) -> None:
        """Neither one endless line nor endless lines are kept."""
        self.assertRaises(WireError, ReplyReader().receive, b"250 " + b"x" * MAX_REPLY)
        self.assertRaises(WireError, ReplyReader().receive, b"250-xxxxxxxxxxxxxxxx\r\n" * (MAX_REPLY // 20))

    @given(st.binary(max_size=200))
    def test_no_bytes_break_the_reader(self, data: bytes) -> None:
        """Replies, waiting, or WireError."""
        with contextlib.suppress(WireError):
            ReplyReader().receive(data)
