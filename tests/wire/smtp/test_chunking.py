"""BDAT and BODY=BINARYMIME (RFC 3030): lengths, order, what is refused, and that no chunk is ever run as commands."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.smtp import events
from dcrouter.wire.smtp.conduct import MAX_ERRORS, MAX_IDLE_COMMANDS
from dcrouter.wire.smtp.data import MAX_TEXT_LINE
from tests.wire.smtp.talking import MAIL, RCPT, START, Session

BINARY = "MAIL FROM:<a@x.example> BODY=BINARYMIME"
EVIL = b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<c@y.example>\r\nBDAT 4 LAST\r\nevil"


def chunk(octets: bytes, *, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n%b" % (len(octets), b" LAST" if last else b"", octets)


def codes(output: bytes) -> list[str]:
    """Reply code and enhanced code of each last line."""
    return [line[:9].decode() for line in output.split(b"\r\n") if line[3:4] == b" "]


class ChunkTests(SynchronousTestCase):
    def test_a_message_in_chunks_is_what_they_are_together(self) -> None:
        """RFC 3030 2: no dot is doubled, none ends anything; each chunk is answered, the last one for the message."""
        session = Session()
        session.lines(*START)
        output = session.send(chunk(b"Subject: x\r\n\r\n.\r\n") + chunk(b"..two\r") + chunk(b"\n.\r\n", last=True))
        self.assertEqual(output.splitlines()[0], b"250 2.0.0 17 octets received")
        self.assertEqual(codes(output), ["250 2.0.0"] * 3)
        self.assertEqual(session.messages, [b"Subject: x\r\n\r\n.\r\n..two\r\n.\r\n"])

    def test_the_last_chunk_may_be_empty(self) -> None:
        """RFC 3030 2: `BDAT 0 LAST` ends a message that has come; it may be all there is."""
        session = Session()
        session.lines(*START)
        self.assertEqual(codes(session.send(chunk(b"text\r\n") + b"bdat 0 last\r\n")), ["250 2.0.0"] * 2)
        self.assertEqual([line[:3] for line in session.lines(MAIL, RCPT, "BDAT 0 LAST", "DATA")[2:]], ["250", "503"])
        self.assertEqual(session.messages, [b"text\r\n", b""])

    def test_last_is_written_in_ascii(self) -> None:
        """A long s makes no LAST, though it is an S in capitals: what is no size ends the session."""
        session = Session()
        session.lines(*START)
        self.assertEqual(session.send("BDAT 1 LA\u017fT\r\nx".encode())[:3], b"501")
        self.assertEqual(session.messages, [])

    def test_cuts_change_nothing(self) -> None:
        """All of a session in one piece, or cut anywhere: the same replies and messages."""
        stream = (
            b"EHLO c\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\n"
            + chunk(b"one\r")
            + chunk(b"\n.\r\nQUIT\r\n", last=True)
            + b"MAIL FROM:<>\r\nRCPT TO:<no@no.example>\r\n"
            + chunk(b"QUIT\r\n", last=True)
            + b"NOOP\r\n"
        )
        expected = codes(Session().send(stream))[1:]
        self.assertEqual([code[:3] for code in expected], ["250"] * 5 + ["550", "554", "250"])
        for cut in range(len(stream) + 1):
            session = Session()
            output = session.send(stream[:cut]) + session.send(stream[cut:])
            self.assertEqual((codes(output)[1:], session.messages), (expected, [b"one\r\n.\r\nQUIT\r\n"]), cut)

    @given(st.lists(st.integers(0, 40)), st.lists(st.integers(0, 300), max_size=5))
    def test_any_sizes_and_any_cuts(self, sizes: list[int], cuts: list[int]) -> None:
        """What comes out is what went in."""
        pieces = [(b"QUIT\r\n.\r\n" * 9)[: size // 3 * 3] for size in sizes]
        text = b"".join(pieces)
        stream = b"".join(map(chunk, pieces)) + chunk(b"", last=True)
        session = Session()
        session.lines("EHLO c", BINARY, RCPT)
        edges = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
        for begin, end in itertools.pairwise(edges):
            session.send(stream[begin:end])
        self.assertEqual(session.messages, [text] if len(text) <= 1000 else [])


class RefusalTests(SynchronousTestCase):
    def test_a_refused_chunk_is_taken_to_its_last_octet(self) -> None:
        """RFC 3030 2: without a transaction, without a recipient, behind a chunk that was refused; then commands go
        on where it ends, and not before."""
        for before, code in (
            ([], "503 5.5.1"),
            (["EHLO c"], "503 5.5.1"),
            (["EHLO c", MAIL], "554 5.5.1"),
            (["EHLO c", MAIL, "RCPT TO:<x@no.example>"], "554 5.5.1"),
            ([*START, "BDAT 0 LAST"], "503 5.5.1"),
        ):
            for cut in range(len(EVIL)):
                session = Session()
                session.lines(*before)
                stream = chunk(EVIL, last=True) + b"NOOP\r\n"
                output = session.send(stream[:cut]) + session.send(stream[cut:])
                self.assertEqual(codes(output), [code, "250 2.0.0"])
                self.assertNotIn("evil@x.example", session.senders)

    def test_what_is_pipelined_behind_a_refused_chunk_is_refused(self) -> None:
        """503 until another transaction begins: half a message never comes to anybody."""
        session = Session()
        session.lines(*START)
        output = session.send(chunk(b"bad\n") + chunk(b"good\r\n", last=True) + f"{RCPT}\r\n{MAIL}\r\n".encode())
        self.assertEqual(codes(output), ["550 5.5.2", "503 5.5.1", "503 5.5.1", "250 2.1.0"])
        self.assertEqual(session.messages, [])

    def test_too_big_is_known_from_the_length(self) -> None:
        """RFC 1870, 3030: 552, of all chunks together; the octets are thrown away, not kept."""
        session = Session()
        session.lines(*START)
        session.send(chunk(b"x" * 998 + b"\r\n"))
        self.assertEqual(session.send(b"BDAT 100000 LAST\r\n"), b"")
        for _ in range(9):
            self.assertEqual(session.send(b"NOOP\r\n" + b"y" * 9994), b"")
            self.assertTrue(session.machine.input.empty)
        self.assertEqual(codes(session.send(b"y" * 10_000 + b"NOOP\r\n")), ["552 5.3.4", "250 2.0.0"])
        self.assertEqual(session.messages, [])

    def test_a_length_that_nobody_can_read_ends_the_session(self) -> None:
        """How much would have to be skipped is not known."""
        for argument in ("", "x", "-1", "5 FIRST", "5LAST", "5 LAST now", "1" * 21, "\u0665"):
            session = Session()
            self.assertEqual(session.lines(*START, f"BDAT {argument}")[-1][:9], "501 5.5.4")
            self.assertTrue(session.machine.closed)

    def test_data_and_bdat_are_not_mixed(self) -> None:
        """RFC 3030 2: nor do recipients or another MAIL come between chunks; 503, and the chunks go on."""
        session = Session()
        session.lines(*START)
        session.send(chunk(b"one\r\n"))
        self.assertEqual([line[:9] for line in session.lines("DATA", RCPT, MAIL)], ["503 5.5.1"] * 3)
        self.assertEqual(codes(session.send(b"NOOP\r\n" + chunk(b"two\r\n", last=True))), ["250 2.0.0"] * 2)
        self.assertEqual(session.messages, [b"one\r\ntwo\r\n"])

    def test_rset_and_ehlo_forget_the_chunks(self) -> None:
        """RFC 3030 2, RFC 5321 4.1.1.5: the next message begins anew."""
        for command in ("RSET", "EHLO c", "HELO c"):
            session = Session()
            session.lines(*START)
            session.send(chunk(b"one\r\n"))
            self.assertEqual(session.lines(command, MAIL, RCPT, "BDAT 0 LAST")[-1], "250 2.0.0 Queued")
            self.assertEqual(session.messages, [b""])

    def test_chunks_without_end_and_without_octets_end_the_session(self) -> None:
        """`BDAT 0` gets nobody further."""
        session = Session()
        session.lines(*START)
        output = session.send(b"BDAT 0\r\n" * (MAX_IDLE_COMMANDS + MAX_ERRORS + 9))
        self.assertEqual(codes(output)[-1], "421 4.7.0")


class ContentTests(SynchronousTestCase):
    def test_stray_octets_are_refused_as_in_data(self) -> None:
        """A lone CR, LF or NUL, at a border of chunks or not: 550 with the chunk that has it; a CR at the end of one
        whose LF begins the next is a line's end."""
        for chunks, expected in (
            ([b"a\nb"], ["550 5.5.2"]),
            ([b"a\rb"], ["550 5.5.2"]),
            ([b"a\0b"], ["550 5.5.2"]),
            ([b"a\r"], ["550 5.5.2"]),
            ([b"a\r", b""], ["250 2.0.0", "550 5.5.2"]),
            ([b"a\r", b"\r\n"], ["250 2.0.0", "550 5.5.2"]),
            ([b"a", b"\nb"], ["250 2.0.0", "550 5.5.2"]),
            ([b"a\r", b"\nb\r\n"], ["250 2.0.0", "250 2.0.0"]),
            ([b"x" * (MAX_TEXT_LINE - 9), b"x" * 10], ["250 2.0.0", "554 5.6.0"]),
        ):
            session = Session(events.Limits(hostname="mx", max_size=100_000, max_recipients=1))
            session.lines(*START)
            stream = b"".join(chunk(one, last=one is chunks[-1]) for one in chunks)
            self.assertEqual(codes(session.send(stream)), expected, chunks)
            self.assertEqual(len(session.messages), int(expected[-1] == "250 2.0.0"))

    def test_binary_content_is_taken_as_it_is(self) -> None:
        """RFC 3030 3: with BODY=BINARYMIME any octets may come, in lines or not."""
        octets = bytes(range(256)) + b"\n.\n\r.\r" + b"x" * 500
        session = Session()
        session.lines("EHLO c", BINARY, RCPT)
        self.assertEqual(codes(session.send(chunk(octets[:100]) + chunk(octets[100:], last=True))), ["250 2.0.0"] * 2)
        self.assertEqual(session.messages, [octets])

    def test_binary_content_comes_by_bdat_only(self) -> None:
        """RFC 3030 3: DATA gets 503; BDAT is welcome still."""
        session = Session()
        self.assertEqual(session.lines("EHLO c", BINARY, RCPT, "DATA", "BDAT 0 LAST")[3:], [
            "503 5.5.1 BODY=BINARYMIME comes by BDAT", "250 2.0.0 Queued"
        ])  # fmt: skip
