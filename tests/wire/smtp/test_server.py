"""The server machine: every verb, in order and out of it, STARTTLS injection, limits, the open-relay forms."""

from __future__ import annotations

import re

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.smtp import events
from dcrouter.wire.smtp.command import MAX_COMMAND_LINE
from dcrouter.wire.smtp.conduct import MAX_ERRORS, MAX_IDLE_COMMANDS, MAX_REFUSED_RECIPIENTS
from dcrouter.wire.smtp.data import MAX_TEXT_LINE
from dcrouter.wire.smtp.server import Server
from tests.wire.smtp.talking import LIMITS, MAIL, RCPT, START, Session


class VerbTests(SynchronousTestCase):
    TABLE: list[tuple[tuple[str, ...], str]] = [
        (("NOOP",), "250 2.0.0"),
        (("NOOP with words",), "250 2.0.0"),
        (("HELP",), "214 2.0.0"),
        (("RSET",), "250 2.0.0"),
        (("RSET x",), "501 5.5.4"),
        (("VRFY someone",), "252 2.5.0"),
        (("VRFY",), "501 5.5.4"),
        (("QUIT",), "221 2.0.0"),
        (("QUIT now",), "501 5.5.4"),
        (("EXPN list",), "502 5.5.1"),
        (("AUTH PLAIN x",), "502 5.5.1"),
        (("XCLIENT ADDR=127.0.0.1",), "502 5.5.1"),
        (("NONSENSE",), "500 5.5.2"),
        (("",), "500 5.5.2"),
        (("EHLO",), "501 5.5.4"),
        (("EHLO a b",), "501 5.5.4"),
        (("EHLO [192.0.2.1]",), "250-mx.example"),
        (("EHLO [IPv6:2001:db8::1]",), "250-mx.example"),
        (("HELO c.example",), "250 mx.example"),
        (("helo c.example",), "250 mx.example"),
        ((MAIL,), "503 5.5.1"),
        ((RCPT,), "503 5.5.1"),
        (("DATA",), "503 5.5.1"),
        (("EHLO c", RCPT), "503 5.5.1"),
        (("EHLO c", "DATA"), "503 5.5.1"),
        (("EHLO c", MAIL), "250 2.1.0"),
        (("HELO c", MAIL), "250 2.1.0"),
        (("EHLO c", "mail from:<a@x.example>"), "250 2.1.0"),
        (("EHLO c", "MAIL FROM: <a@x.example>"), "250 2.1.0"),
        (("EHLO c", "MAIL FROM:<>"), "250 2.1.0"),
        (("EHLO c", "MAIL FROM:<@r.example:a@x.example>"), "250 2.1.0"),
        (("EHLO c", "MAIL FROM:<a@x.example> SIZE=1000 BODY=8BITMIME"), "250 2.1.0"),
        (("EHLO c", "MAIL FROM:<a@x.example> size=1 body=7bit"), "250 2.1.0"),
        (("EHLO c", "MAIL FROM:<a@x.example> SIZE=1001"), "552 5.3.4"),
        (("EHLO c", "MAIL FROM:<a@x.example> SIZE=-1"), "501 5.5.4"),
        (("EHLO c", "MAIL FROM:<a@x.example> SIZE=1 SIZE=2"), "501 5.5.4"),
        (("EHLO c", "MAIL FROM:<a@x.example> BODY=BINARYMIME"), "250 2.1.0"),
        (("EHLO c", "MAIL FROM:<a@x.example> BODY=9BIT"), "501 5.5.4"),
        (("EHLO c", "MAIL FROM:<a@x.example> BODY=7BIT BODY=7BIT"), "501 5.5.4"),
        (("EHLO c", "MAIL FROM:<a@x.example> SMTPUTF8"), "250 2.1.0"),
        (("EHLO c", "MAIL FROM:<a@x.example> SMTPUTF8=1"), "501 5.5.4"),
        (("EHLO c", "MAIL FROM:<a@x.example> SMTPUTF8 SMTPUTF8"), "501 5.5.4"),
        (("EHLO c", "MAIL FROM:<\u00fc@x.example> smtputf8"), "250 2.1.0"),
        (("EHLO c", "MAIL FROM:<\u00fc@x.example> SIZE=1"), "553 5.6.7"),
        (("EHLO c", "MAIL FROM:<> SMTPUTF8", "RCPT TO:<\u00fc@b\u00fccher.example>"), "250 2.1.5"),
        (("EHLO c", "MAIL FROM:<>", "RCPT TO:<\u00fc@b\u00fccher.example>"), "553 5.6.7"),
        (("EHLO c", "MAIL FROM:<>", "RCPT TO:<u@b\u00fccher.example>"), "553 5.6.7"),
        (("VRFY \u00fc@x.example",), "553 5.6.7"),
        (("VRFY \u00fc@x.example SMTPUTF8",), "252 2.5.0"),
        (("VRFY x SMTPUTF8",), "252 2.5.0"),
        (("EHLO c", "MAIL FROM:<a@x.example>SIZE=1"), "501 5.1.3"),
        (("EHLO c", "MAIL a@x.example"), "501 5.5.4"),
        (("EHLO c", "MAIL FROM:<a@x.example"), "501 5.1.3"),
        (("EHLO c", "MAIL FROM:<\u00fc@x.example>"), "553 5.6.7"),
        (("EHLO c", MAIL, MAIL), "503 5.5.1"),
        (("EHLO c", MAIL, "EHLO c", RCPT), "503 5.5.1"),
        (("EHLO c", MAIL, "HELO c", RCPT), "503 5.5.1"),
        (("EHLO c", MAIL, "RSET", RCPT), "503 5.5.1"),
        (("EHLO c", MAIL, RCPT), "250 2.1.5"),
        (("EHLO c", MAIL, "RCPT TO:<postmaster>"), "250 2.1.5"),
        (("EHLO c", MAIL, "RCPT TO:<Postmaster>"), "250 2.1.5"),
        (("EHLO c", MAIL, "RCPT TO:<>"), "501 5.1.3"),
        (("EHLO c", MAIL, "RCPT TO:<b@y.example> NOTIFY=NEVER"), "555 5.5.4"),
        (("EHLO c", MAIL, "RCPT FROM:<b@y.example>"), "501 5.5.4"),
        (("EHLO c", MAIL, "RCPT TO:<b@no.example>", "DATA"), "554 5.5.1"),
        (("EHLO c", MAIL, "DATA"), "554 5.5.1"),
        ((*START, RCPT, RCPT, RCPT), "452 4.5.3"),
        ((*START, "DATA now"), "501 5.5.4"),
        ((*START, "DATA"), "354 "),
        ((*START, "DATA", "."), "250 2.0.0"),
        ((*START, "DATA", ".", "DATA"), "503 5.5.1"),
        ((*START, "DATA", ".", MAIL), "250 2.1.0"),
        (("STARTTLS",), "503 5.5.1"),
        (("EHLO c", "STARTTLS x"), "501 5.5.4"),
        (("EHLO c", "STARTTLS"), "220 2.0.0"),
        (("GET / HTTP/1.1",), "502 5.5.1"),
    ]

    def test_every_verb_has_its_reply(self) -> None:
        """The last line of each dialogue is answered as the table says."""
        for lines, expected in self.TABLE:
            with self.subTest(lines=lines):
                replies = Session().lines(*lines)
                self.assertTrue(replies[-1].startswith(expected), replies)

    def test_every_reply_after_ehlo_has_an_enhanced_code(self) -> None:
        """RFC 2034: all 2xx, 4xx and 5xx but those to EHLO and HELO; and its class is that of the reply."""
        for lines, _ in self.TABLE:
            for line, reply in zip(lines, Session().lines(*lines), strict=True):
                if reply[0] in "245" and not line.upper().startswith(("EHLO [", "EHLO C", "HELO C")):
                    with self.subTest(line=line, reply=reply):
                        self.assertRegex(reply, r"^(\d)\d\d \1\.\d+\.\d+ ")

    def test_ehlo_announces_what_there_is(self) -> None:
        """And STARTTLS only until it is used."""
        session = Session()
        first = session.send(b"EHLO c\r\n").decode().splitlines()
        self.assertEqual(first[0], "250-mx.example greets c")
        self.assertEqual(
            {line[4:] for line in first[1:]},
            {
                "PIPELINING",
                "LIMITS RCPTMAX=3",
                "SIZE 1000",
                "STARTTLS",
                "ENHANCEDSTATUSCODES",
                "8BITMIME",
                "CHUNKING",
                "BINARYMIME",
                "SMTPUTF8",
            },
        )
        session.send(b"STARTTLS\r\n")
        session.machine.tls_started()
        self.assertNotIn(b"STARTTLS", session.send(b"EHLO c\r\n"))
        self.assertEqual(session.lines("STARTTLS")[0][:9], "503 5.5.1")

    def test_a_second_ehlo_is_a_reset(self) -> None:
        """RFC 5321 4.1.4: the transaction is gone, the session is not."""
        session = Session()
        session.lines(*START, "EHLO d.example")
        self.assertEqual(session.lines("DATA")[0][:3], "503")
        self.assertEqual(session.machine.helo, "d.example")

    def test_submission_without_login_is_refused_at_mail(self) -> None:
        """530 5.7.0, in the clear as under TLS."""
        limits = events.Limits(hostname="mx.example", max_size=1000, max_recipients=3, auth_required=True)
        session = Session(limits)
        self.assertEqual([line[:9] for line in session.lines("EHLO c", MAIL, RCPT)][1:], ["530 5.7.0", "503 5.5.1"])


class PipeliningTests(SynchronousTestCase):
    DIALOGUE = (
        b"EHLO c\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@no.example>\r\nRCPT TO:<b@y.example>\r\nFOO\r\nDATA\r\n"
        b"Subject: x\r\n\r\n..text\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@y.example>\r\nDATA\r\n.\r\nQUIT\r\nNOOP\r\n"
    )
    CODES = [b"250", b"250", b"550", b"250", b"500", b"354", b"250", b"250", b"250", b"354", b"250", b"221"]

    def test_answers_come_in_order_at_every_cut(self) -> None:
        """No input is flushed on an error, nothing is read after QUIT, and cuts change nothing."""
        for cut in range(len(self.DIALOGUE) + 1):
            session = Session()
            output = session.send(self.DIALOGUE[:cut]) + session.send(self.DIALOGUE[cut:])
            codes = [line[:3] for line in output.splitlines() if line[3:4] == b" "]
            self.assertEqual(codes, self.CODES, cut)
            self.assertEqual(session.messages, [b"Subject: x\r\n\r\n.text\r\n", b""])

    def test_answers_may_come_later(self) -> None:
        """The machine stands still while it waits, and reads on where it stood."""
        machine = Server(LIMITS)
        machine.receive(b"EHLO c\r\nMAIL FROM:<a@x.example>\r\nNOOP\r\n")
        self.assertIsInstance(machine.next_event(), events.Mail)
        self.assertIsNone(machine.next_event())
        machine.take_output()
        self.assertEqual(machine.take_output(), b"")
        machine.answer(b"451 4.3.0 Later\r\n")
        self.assertIsNone(machine.next_event())
        self.assertEqual(machine.take_output(), b"451 4.3.0 Later\r\n250 2.0.0 OK\r\n")

    def test_a_message_sent_without_waiting_for_a_refused_data_is_not_run(self) -> None:
        """Its lines would be commands; the session ends instead."""
        session = Session()
        output = session.send(
            b"EHLO c\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@no.example>\r\nDATA\r\nSubject: x\r\n\r\nQUIT\r\n.\r\n"
        )
        self.assertEqual(output.splitlines()[-1][:9], b"554 5.5.0")
        self.assertTrue(session.machine.closed)


class UnauthorizedPipeliningTests(SynchronousTestCase):
    """RFC 2920 3.1, RFC 5321 4.1.4: EHLO, HELO, DATA, VRFY and AUTH end a group; before EHLO there are no groups."""

    strict = evolve(LIMITS, strict=True)

    def test_who_does_not_wait_is_sent_away(self) -> None:
        """554 5.5.0 in the place of the command's reply, which has not been obeyed."""
        for before, group in (
            ((), "EHLO c\r\nMAIL FROM:<a@x.example>\r\n"),
            ((), "HELO c\r\nN"),
            ((), "NOOP\r\nEHLO c\r\n"),
            (("HELO c",), f"{MAIL}\r\n{RCPT}\r\n"),
            (START, "DATA\r\nSubject: x\r\n\r\n.\r\n"),
            (START, "VRFY b\r\nQ"),
            (("EHLO c",), "EHLO d\r\nQUIT"),
        ):
            session = Session(self.strict)
            session.lines(*before)
            self.assertEqual(session.send(group.encode()), b"554 5.5.0 Commands sent without waiting for the reply "
                             b"(RFC 2920)\r\n", group)  # fmt: skip
            self.assertTrue(session.machine.closed)
            self.assertEqual(session.messages, [])

    def test_groups_that_may_be_are_taken(self) -> None:
        """RFC 2920 3.1, 3030 4.2: after EHLO, up to DATA or with chunks; and QUIT behind anything."""
        session = Session(self.strict)
        session.lines("EHLO c")
        group = f"{MAIL}\r\n{RCPT}\r\nRCPT TO:<b@no.example>\r\nNOOP\r\nRSET\r\n{MAIL}\r\n{RCPT}\r\n"
        session.send(f"{group}DATA\r\n".encode())
        output = session.send(f"x\r\n.\r\n{MAIL}\r\n{RCPT}\r\nBDAT 3\r\ny\r\nBDAT 0 LAST\r\nQUIT\r\n".encode())
        self.assertEqual(output.splitlines()[-1][:3], b"221")
        self.assertEqual(session.messages, [b"x\r\n", b"y\r\n"])
        self.assertEqual(Session(self.strict).send(b"EHLO c\r\nQUIT\r\n").splitlines()[-1][:3], b"221")


class StartTlsTests(SynchronousTestCase):
    def test_what_is_pipelined_behind_starttls_ends_the_session(self) -> None:
        """CVE-2011-0411 and its kin: the injected command is not run, neither before nor after the handshake."""
        for behind in (b"RSET\r\n", b"EHLO evil\r\n", b"N", b"\x16\x03\x01"):
            session = Session()
            output = session.send(b"EHLO c\r\nSTARTTLS\r\n" + behind)
            self.assertEqual(output.splitlines()[-1][:9], b"554 5.5.0")
            self.assertTrue(session.machine.closed)
            self.assertEqual(session.send(b"NOOP\r\n"), b"")

    def test_no_state_survives_the_handshake(self) -> None:
        """RFC 3207 4.2: neither the name nor the transaction, nor chunks of a message."""
        session = Session()
        session.lines(*START)
        session.send(b"BDAT 3\r\nx\r\n")
        session.send(b"STARTTLS\r\n")
        session.machine.tls_started()
        self.assertEqual([line[:3] for line in session.lines(RCPT, "DATA", MAIL)], ["503", "503", "503"])

    def test_454_leaves_the_session_as_it_was(self) -> None:
        """Where TLS is broken the client may go on."""
        machine = Server(LIMITS)
        machine.receive(b"EHLO c\r\nSTARTTLS\r\n")
        self.assertIsInstance(machine.next_event(), events.StartTls)
        machine.answer(b"454 4.7.0 No\r\n")
        machine.receive(b"NOOP\r\n")
        self.assertIsNone(machine.next_event())
        self.assertTrue(machine.take_output().endswith(b"454 4.7.0 No\r\n250 2.0.0 OK\r\n"))


class LimitTests(SynchronousTestCase):
    def test_long_command_lines_are_not_kept(self) -> None:
        """Up to the limit they are read; beyond it one error answers the line, and the session goes on."""
        session = Session()
        self.assertEqual(session.send(b"NOOP " + b"x" * (MAX_COMMAND_LINE - 6) + b"\r\n")[:3], b"250")
        for _ in range(50):
            self.assertEqual(session.send(b"x" * 10000), b"")
        self.assertEqual(session.send(b"x\r\nNOOP\r\n").split(b"\r\n")[0][:9], b"500 5.5.2")
        self.assertEqual(session.send(b"NOOP " + b"x" * MAX_COMMAND_LINE + b"\r\n")[:9], b"500 5.5.2")

    def test_lines_end_with_crlf(self) -> None:
        """A bare LF ends the session; a CR or a NUL within a line is an error."""
        session = Session()
        self.assertEqual(session.send(b"EHLO c\nNOOP\r\n")[:9], b"500 5.5.2")
        self.assertTrue(session.machine.closed)
        for line in (b"NOOP a\rb\r\n", b"NOOP a\0b\r\n"):
            self.assertEqual(Session().send(line)[:9], b"500 5.5.2")

    def test_a_message_beyond_the_size_is_read_and_refused(self) -> None:
        """552 after the true end; what it had too much was never handed out."""
        session = Session()
        session.lines(*START, "DATA")
        for _ in range(20):
            self.assertEqual(session.send(b"x" * 98 + b"\r\n"), b"")
        self.assertEqual(session.send(b".\r\n")[:9], b"552 5.3.4")
        self.assertEqual(session.messages, [])
        self.assertEqual(session.lines(MAIL)[0][:3], "250")

    def test_the_size_counts_neither_stuffing_nor_the_end_mark(self) -> None:
        """RFC 1870: a message of exactly the limit passes."""
        session = Session()
        session.lines(*START, "DATA")
        self.assertEqual(session.send((b".." + b"x" * 97 + b"\r\n") * 10 + b".\r\n")[:3], b"250")

    def test_spoiled_messages_are_refused_after_their_end(self) -> None:
        """A lone LF, CR or NUL, or a line too long: 5xx, then the session goes on."""
        for body in (b"a\nb\r\n", b"a\rb\r\n", b"a\0b\r\n", b"x" * (MAX_TEXT_LINE + 1) + b"\r\n"):
            session = Session(events.Limits(hostname="mx", max_size=5000, max_recipients=1))
            session.lines(*START, "DATA")
            reply, after, _ = session.send(body + b".\r\nNOOP\r\n").split(b"\r\n")
            self.assertRegex(reply, rb"^55[04] 5\.\d\.\d ")
            self.assertEqual((after[:3], session.messages), (b"250", []))

    def test_too_many_errors_end_the_session(self) -> None:
        """421 4.7.0 with the last of them."""
        session = Session()
        output = session.send(b"FOO\r\n" * (MAX_ERRORS + 5))
        self.assertEqual(output.count(b"500 5.5.2"), MAX_ERRORS)
        self.assertEqual(output.splitlines()[-1][:9], b"421 4.7.0")
        self.assertTrue(session.machine.closed)

    def test_too_many_refused_recipients_end_the_session(self) -> None:
        """Whoever guesses addresses is sent away."""
        session = Session()
        session.lines("EHLO c", MAIL)
        output = session.send(b"RCPT TO:<x@no.example>\r\n" * (MAX_REFUSED_RECIPIENTS + 9))
        self.assertEqual(output.count(b"550 "), MAX_REFUSED_RECIPIENTS + 1)
        self.assertTrue(session.machine.closed)

    def test_commands_without_end_and_without_mail_end_the_session(self) -> None:
        """NOOP is not for ever."""
        session = Session()
        output = session.send(b"NOOP\r\n" * (MAX_IDLE_COMMANDS + MAX_ERRORS + 9))
        self.assertEqual(output.count(b"250 "), MAX_IDLE_COMMANDS + MAX_ERRORS)
        self.assertTrue(session.machine.closed)

    def test_transactions_without_end_and_without_mail_end_the_session(self) -> None:
        """Recipients that were accepted for nothing count; who resets a large transaction once may go on."""
        session = Session(evolve(LIMITS, max_recipients=1000))
        round = f"{MAIL}\r\n{(RCPT + chr(13) + chr(10)) * 1100}RSET\r\n".encode()
        session.lines("EHLO c.example")
        session.send(round)
        self.assertEqual(session.lines(MAIL, RCPT, "DATA", ".")[-1], "250 2.0.0 Queued")
        for _ in range(MAX_ERRORS):
            self.assertFalse(session.machine.closed)
            output = session.send(round)
        self.assertEqual(output.splitlines()[-1], b"421 4.7.0 Too many commands without a message")
        self.assertTrue(session.machine.closed)

    def test_a_draining_server_begins_no_transaction(self) -> None:
        """What runs may end; the next MAIL gets 421."""
        session = Session()
        session.lines(*START)
        session.machine.draining = True
        self.assertEqual(session.lines("DATA", ".", MAIL)[1:], ["250 2.0.0 Queued", "421 4.3.2 This server is closing"])
        self.assertTrue(session.machine.closed)


class SmugglingTests(SynchronousTestCase):
    SEQUENCES = [
        b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r",
        b"\r\n\x00.\r\n", b"\r\n.\x00\r\n",
    ]  # fmt: skip

    def test_no_published_sequence_lets_a_second_message_in(self) -> None:
        """At every cut: one transaction was seen, and it was refused."""
        for sequence in self.SEQUENCES:
            for before in (b"Subject: x\r\n\r\ntext", b""):
                evil = b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<c@y.example>\r\nDATA\r\nevil\r\n.\r\n"
                stream = before + sequence + evil
                for cut in range(len(stream) + 1):
                    session = Session()
                    session.lines(*START, "DATA")
                    output = session.send(stream[:cut]) + session.send(stream[cut:])
                    self.assertEqual(session.senders, ["a@x.example"])
                    self.assertEqual((output[:9], session.messages), (b"550 5.5.2", []))


class RobustnessTests(SynchronousTestCase):
    def test_noise_is_answered_or_ends(self) -> None:
        """Any bytes give whole replies and no exception."""
        for noise in (bytes(range(256)) * 20, b"\r\n" * 500, b"\xff\xfe\r\n" * 50, b"\x16\x03\x01\x02\x00\x01" * 90):
            output = Session().send(noise)
            self.assertIsNotNone(re.fullmatch(rb"(?:[2-5]\d\d[ -][^\r\n]*\r\n)*", output))
