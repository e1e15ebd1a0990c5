"""Message data: its end, its dots, and what must neither end it nor leave."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.smtp.data import MAX_TEXT_LINE, Stuffer, Unstuffer

SMUGGLING = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n",
]
"""What must not end a message that comes in: the union of the published lists."""

OUTBOUND = [*SMUGGLING, b"\r\n.\r\r\n", b"\r\r\n.\r\r\n"]
"""What must not leave."""

BEHIND = b"MAIL FROM:<evil@example.test>\r\n"


def unstuffed(pieces: list[bytes]) -> tuple[bytes, bytes, str | None, bool]:
    """(message, what follows, flaw, ended)."""
    machine = Unstuffer()
    message = rest = b""
    for piece in pieces:
        if machine.ended:
            rest += piece
        else:
            octets, rest = machine.receive(piece)
            message += octets
    return message, rest, machine.flaw, machine.ended


def stuffed(pieces: list[bytes]) -> bytes:
    machine = Stuffer()
    return b"".join([machine.send(piece) for piece in pieces]) + machine.end()


text = st.lists(st.sampled_from([b".", b"..", b"a", b"\r\n", b"\r\n.", b"\r\n..", b"line of text"]), max_size=12).map(
    b"".join
)
anything = st.lists(
    st.sampled_from([b".", b"\r", b"\n", b"\0", b"\r\n", b"a", b"\r\n.\r\n", *OUTBOUND]), max_size=8
).map(b"".join)


class UnstufferTests(SynchronousTestCase):
    def test_only_crlf_dot_crlf_ends_a_message(self) -> None:
        """The end mark is found at every cut, and what follows it is given back."""
        stream = b"a\r\n..b\r\n...\r\n.c\r\n.\r\nNOOP\r\n"
        for cut in range(len(stream) + 1):
            self.assertEqual(
                unstuffed([stream[:cut], stream[cut:]]), (b"a\r\n.b\r\n..\r\nc\r\n", b"NOOP\r\n", None, True)
            )
        one_by_one = [stream[at : at + 1] for at in range(len(stream))]
        self.assertEqual(unstuffed(one_by_one), (b"a\r\n.b\r\n..\r\nc\r\n", b"NOOP\r\n", None, True))

    def test_a_dot_at_once_is_an_empty_message(self) -> None:
        """The CRLF of the DATA line counts as the first of the end mark."""
        for cut in range(4):
            self.assertEqual(unstuffed([b".\r\n"[:cut], b".\r\n"[cut:]]), (b"", b"", None, True))

    @given(text, st.lists(st.integers(0, 60), max_size=4))
    def test_a_message_without_dotted_lines_leaves_as_it_came(self, lines: bytes, cuts: list[int]) -> None:
        """However it is cut: where none was seen, what the other machine makes of it is the same octets."""
        machine = Unstuffer()
        wire = b"begin\r\n" + lines + b"\r\n.\r\n"
        message, at = b"", 0
        for cut in (*sorted(cuts), len(wire)):
            if not machine.ended:
                message += machine.receive(wire[at:cut])[0]
                at = max(at, cut)
        self.assertTrue(machine.ended)
        if machine.dotless:
            self.assertEqual(stuffed([message]), message + b".\r\n")
        else:
            self.assertIn(b"\r\n.", wire[: -len(b"\r\n.\r\n")])

    def test_smuggling_does_not_end_a_message_and_spoils_it(self) -> None:
        """Every published sequence, inside and as first bytes, cut at every byte: read on, then refused."""
        for sequence in SMUGGLING:
            for before in (b"Subject: x\r\n\r\ntext", b""):
                stream = before + sequence + BEHIND + b"\r\n.\r\nQUIT\r\n"
                for cut in range(len(stream) + 1):
                    with self.subTest(sequence=sequence, before=before, cut=cut):
                        _, rest, flaw, ended = unstuffed([stream[:cut], stream[cut:]])
                        self.assertEqual((rest, flaw, ended), (b"QUIT\r\n", "stray", True))

    def test_smuggling_without_the_true_end_goes_on(self) -> None:
        """No sequence ends the message by itself."""
        for sequence in SMUGGLING:
            for before in (b"text", b""):
                self.assertFalse(unstuffed([before + sequence + BEHIND])[3], sequence)

    def test_lines_are_long_and_bounded(self) -> None:
        """RFC 5321 4.5.3.1.6 asks for 998 octets at least; one more than our bound is a flaw, wherever it is cut."""
        self.assertGreaterEqual(MAX_TEXT_LINE, 998)
        for length, flaw in ((MAX_TEXT_LINE, None), (MAX_TEXT_LINE + 1, "long-line")):
            stream = b"a\r\n" + b"x" * length + b"\r\nb\r\n.\r\n"
            for cut in (0, 1, 3, 4, 500, *range(length + 2, length + 7), len(stream)):
                with self.subTest(length=length, cut=cut):
                    self.assertEqual(unstuffed([stream[:cut], stream[cut:]])[2:], (flaw, True))
            pieces = [stream[at : at + 7] for at in range(0, len(stream), 7)]
            self.assertEqual(unstuffed(pieces)[2:], (flaw, True))

    def test_a_stuffed_line_is_measured_without_its_dot(self) -> None:
        """The stuffing does not count."""
        self.assertIsNone(unstuffed([b".." + b"x" * (MAX_TEXT_LINE - 1) + b"\r\n.\r\n"])[2])

    @given(anything, st.integers(0, 60))
    def test_cuts_change_nothing(self, stream: bytes, cut: int) -> None:
        """Whatever comes, in two pieces or in one, it is the same message."""
        whole, halves = unstuffed([stream]), unstuffed([stream[:cut], stream[cut:]])
        self.assertEqual(whole[1:], halves[1:])
        if whole[2] is None:
            self.assertEqual(whole[0], halves[0])


class StufferTests(SynchronousTestCase):
    @given(text, st.integers(0, 60))
    def test_what_is_stuffed_is_unstuffed_to_itself(self, message: bytes, cut: int) -> None:
        """Over every border of pieces; a message without a last CRLF gets one."""
        if message and not message.endswith(b"\r\n"):
            message += b"\r\n"
        for pieces in ([message], [message[:cut], message[cut:]]):
            self.assertEqual(unstuffed([stuffed(pieces)]), (message, b"", None, True))

    def test_a_last_line_without_end_gets_one(self) -> None:
        """And nothing else changes."""
        self.assertEqual(stuffed([b"a"]), b"a\r\n.\r\n")
        self.assertEqual(stuffed([b"a\r"]), b"a\r\n.\r\n")
        self.assertEqual(stuffed([]), b".\r\n")
        self.assertEqual(stuffed([b".", b"."]), b"...\r\n.\r\n")

    def test_smuggling_sequences_do_not_leave(self) -> None:
        """None of the published list is in what is written, except the one true end at its end; at every cut."""
        for sequence in OUTBOUND:
            for before in (b"text", b"", b"text\r\n"):
                message = before + sequence + BEHIND
                for cut in range(len(message) + 1):
                    with self.subTest(sequence=sequence, before=before, cut=cut):
                        self._check(stuffed([message[:cut], message[cut:]]))

    @given(anything, st.integers(0, 60))
    def test_nothing_stray_leaves(self, message: bytes, cut: int) -> None:
        """For any bytes at all."""
        self._check(stuffed([message[:cut], message[cut:]]))

    def _check(self, wire: bytes) -> None:
        self.assertTrue(wire.endswith(b".\r\n"))
        self.assertIsNone(re.search(rb"\r(?!\n)|(?<!\r)\n|\0", wire))
        self.assertEqual(unstuffed([wire])[1:], (b"", None, True))
