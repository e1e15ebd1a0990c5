"""AUTH in the server machine: both mechanisms, every place where it is refused, injection, long lines."""

from __future__ import annotations

from base64 import b64encode

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.sasl import Credentials, Exchange, encode
from dcrouter.wire.smtp import events
from dcrouter.wire.smtp.command import MAX_AUTH_LINE
from dcrouter.wire.smtp.conduct import MAX_FAILED_LOGINS
from dcrouter.wire.smtp.server import Server

LIMITS = events.Limits(
    hostname="mx.example",
    max_size=1000,
    max_recipients=3,
    starttls=True,
    tls_required=True,
    auth=("PLAIN", "LOGIN"),
    auth_required=True,
)
NEVER_TLS = events.Limits(
    hostname="mx.example", max_size=1000, max_recipients=3, starttls=True, auth=("PLAIN", "LOGIN"), auth_required=True
)
MAIL = "MAIL FROM:<a@x.example>"


def b64(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")


GOOD = b64(b"\0alice\0good")
WRONG = b64(b"\0alice\0wrong")


class Session:
    """A client that writes lines under TLS, and an operator who knows alice, whose password is `good`."""

    def __init__(self, limits: events.Limits = LIMITS, *, tls: bool = True) -> None:
        self.machine = Server(limits, tls=tls)
        self.exchange = Exchange("PLAIN")
        self.credentials: list[Credentials] = []
        self.senders: list[str] = []

    def send(self, data: bytes) -> bytes:
        """What the client gets for these bytes."""
        self.machine.receive(data)
        while (event := self.machine.next_event()) is not None:
            if isinstance(event, events.Auth):
                self.exchange = Exchange(event.mechanism)
                self.machine.answer(self.said(event.response))
            elif isinstance(event, events.AuthResponse):
                self.machine.answer(self.said(event.response))
            elif isinstance(event, events.Mail):
                self.senders.append(event.sender.address)
                self.machine.answer(b"250 2.1.0 OK\r\n")
            elif isinstance(event, events.Recipient | events.EndOfData):
                self.machine.answer(b"250 2.1.5 OK\r\n")
            elif isinstance(event, events.StartTls):
                self.machine.answer(b"220 2.0.0 Go\r\n")
        return self.machine.take_output()

    def said(self, response: bytes | None) -> bytes:
        """The operator's answer to a response."""
        try:
            step = self.exchange.receive(response)
        except WireError as error:
            return (error.reply or b"") + b"\r\n"
        if isinstance(step, bytes):
            return b"334 " + encode(step) + b"\r\n"
        self.credentials.append(step)
        good = step == Credentials(account="alice", password="good")
        return b"235 2.7.0 Welcome\r\n" if good else b"535 5.7.8 Wrong\r\n"

    def lines(self, *lines: str) -> list[str]:
        """The last reply's first line for each line sent, one by one."""
        return [self.send(line.encode() + b"\r\n").decode().splitlines()[0] for line in lines]


class AuthTests(SynchronousTestCase):
    TABLE: list[tuple[tuple[str, ...], str]] = [
        (("AUTH PLAIN " + GOOD,), "503 5.5.1"),
        (("HELO c", "AUTH PLAIN " + GOOD), "503 5.5.1"),
        (("EHLO c", "AUTH"), "501 5.5.4"),
        (("EHLO c", "AUTH CRAM-MD5"), "504 5.5.4"),
        (("EHLO c", "AUTH PLAIN"), "334 "),
        (("EHLO c", "AUTH PLAIN " + GOOD), "235 2.7.0"),
        (("EHLO c", "auth plain " + GOOD), "235 2.7.0"),
        (("EHLO c", "AUTH PLAIN " + WRONG), "535 5.7.8"),
        (("EHLO c", "AUTH PLAIN", GOOD), "235 2.7.0"),
        (("EHLO c", "AUTH PLAIN", "*"), "501 5.7.0"),
        (("EHLO c", "AUTH PLAIN", ""), "501 5.5.2"),
        (("EHLO c", "AUTH PLAIN", "QUIT"), "501 5.5.2"),
        (("EHLO c", "AUTH PLAIN ="), "501 5.5.2"),
        (("EHLO c", "AUTH PLAIN x"), "501 5.5.2"),
        (("EHLO c", f"AUTH PLAIN {GOOD} more"), "501 5.5.2"),
        (("EHLO c", "AUTH PLAIN x", "AUTH PLAIN " + GOOD), "235 2.7.0"),
        (("EHLO c", "AUTH PLAIN", "*", "AUTH PLAIN " + GOOD), "235 2.7.0"),
        (("EHLO c", "AUTH LOGIN"), "334 VXNlcm5hbWU6"),
        (("EHLO c", "AUTH LOGIN " + b64(b"alice")), "334 UGFzc3dvcmQ6"),
        (("EHLO c", "AUTH LOGIN " + b64(b"alice"), b64(b"good")), "235 2.7.0"),
        (("EHLO c", "AUTH LOGIN", b64(b"alice"), b64(b"good")), "235 2.7.0"),
        (("EHLO c", "AUTH LOGIN", b64(b"alice"), b64(b"wrong")), "535 5.7.8"),
        (("EHLO c", "AUTH LOGIN", b64(b"alice"), "*"), "501 5.7.0"),
        (("EHLO c", "AUTH LOGIN", "*"), "501 5.7.0"),
        (("EHLO c", "AUTH LOGIN ="), "334 UGFzc3dvcmQ6"),
        (("EHLO c", "AUTH PLAIN " + GOOD, "AUTH PLAIN " + GOOD), "503 5.5.1"),
        (("EHLO c", "AUTH PLAIN " + GOOD, "EHLO c", "AUTH PLAIN " + GOOD), "503 5.5.1"),
        (("EHLO c", "AUTH PLAIN " + GOOD, MAIL), "250 2.1.0"),
        (("EHLO c", "AUTH PLAIN " + GOOD, "EHLO d", MAIL), "250 2.1.0"),
        (("EHLO c", "AUTH PLAIN " + GOOD, "RSET", MAIL), "250 2.1.0"),
        (("EHLO c", "AUTH PLAIN " + GOOD, MAIL + " AUTH=<>"), "250 2.1.0"),
        (("EHLO c", "AUTH PLAIN " + WRONG, MAIL), "530 5.7.0"),
        (("EHLO c", "AUTH PLAIN", "*", MAIL), "530 5.7.0"),
        (("EHLO c", MAIL), "530 5.7.0"),
    ]

    def test_every_place_has_its_reply(self) -> None:
        """RFC 4954 4 and 6: 334, 235, 535 5.7.8; 501 for `*`, bad base64 and an empty response; `=` is an empty initial
        one; 504 for unknown mechanisms, 503 for a second login, 530 5.7.0 without one.
        """
        for lines, expected in self.TABLE:
            with self.subTest(lines=lines):
                replies = Session().lines(*lines)
                self.assertTrue(replies[-1].startswith(expected), replies)

    def test_auth_is_not_for_the_clear(self) -> None:
        """RFC 4954 4 and 6: 538 (530 where TLS comes first), and not announced; credentials are not even looked at."""
        for limits, reply in ((LIMITS, "530 5.7.0"), (NEVER_TLS, "538 5.7.11")):
            session = Session(limits, tls=False)
            self.assertNotIn(b"AUTH", session.send(b"EHLO c\r\n"))
            self.assertTrue(session.lines("AUTH PLAIN " + GOOD)[0].startswith(reply))
            self.assertTrue(session.lines("AUTH LOGIN")[0].startswith(reply))
            self.assertEqual(session.lines(GOOD)[0][:9], "500 5.5.2")
            self.assertEqual(session.credentials, [])
            self.assertEqual(session.lines(MAIL)[0][:9], "530 5.7.0")

    def test_tls_brings_auth_and_takes_all_state(self) -> None:
        """RFC 3207 4.2: EHLO again, and AUTH is announced then; one that was begun in clear does not go on."""
        session = Session(tls=False)
        session.lines("EHLO c", "STARTTLS")
        session.machine.tls_started()
        self.assertEqual(session.lines("AUTH PLAIN " + GOOD)[0][:9], "503 5.5.1")
        self.assertIn(b"250-AUTH PLAIN LOGIN\r\n", session.send(b"EHLO c\r\n"))
        self.assertEqual(session.lines("AUTH PLAIN " + GOOD)[0][:3], "235")

    def test_where_nobody_can_log_in_it_is_not_offered(self) -> None:
        """No mechanisms: EHLO is silent, AUTH is 502."""
        session = Session(events.Limits(hostname="mx", max_size=1, max_recipients=1))
        self.assertNotIn(b"AUTH", session.send(b"EHLO c\r\n"))
        self.assertEqual(session.lines("AUTH PLAIN " + GOOD)[0][:9], "502 5.5.1")

    def test_tls_first_where_it_is_required(self) -> None:
        """530 5.7.0 at MAIL in clear, also where no login is asked for; the transaction does not begin."""
        limits = events.Limits(hostname="mx", max_size=1, max_recipients=1, starttls=True, tls_required=True)
        session = Session(limits, tls=False)
        replies = session.lines("EHLO c", MAIL, "RCPT TO:<b@y.example>")
        self.assertEqual([line[:9] for line in replies[1:]], ["530 5.7.0", "503 5.5.1"])
        self.assertIn("STARTTLS", replies[1])

    def test_not_within_a_transaction(self) -> None:
        """RFC 4954 4: 503, and the transaction goes on."""
        session = Session(events.Limits(hostname="mx", max_size=100, max_recipients=1, auth=("PLAIN",)))
        self.assertEqual(session.lines("EHLO c", MAIL, "AUTH PLAIN " + GOOD)[-1][:9], "503 5.5.1")
        self.assertEqual(session.lines("RCPT TO:<b@y.example>")[0][:3], "250")

    def test_what_is_pipelined_behind_auth_waits_for_it(self) -> None:
        """RFC 2920 wants AUTH last in a group; a client that goes on is answered in order, as if it had waited."""
        dialogue = f"EHLO c\r\nAUTH PLAIN {GOOD}\r\n{MAIL}\r\nQUIT\r\n".encode()
        for cut in range(len(dialogue) + 1):
            session = Session()
            output = session.send(dialogue[:cut]) + session.send(dialogue[cut:])
            codes = [line[:3] for line in output.splitlines() if line[3:4] == b" "]
            self.assertEqual(codes, [b"250", b"235", b"250", b"221"], cut)
            self.assertEqual(session.senders, ["a@x.example"])

    def test_what_is_pipelined_behind_a_challenge_is_a_response(self) -> None:
        """It is not run as a command."""
        session = Session()
        output = session.send(f"EHLO c\r\nAUTH PLAIN\r\n{MAIL}\r\nNOOP\r\n".encode())
        self.assertEqual([line[:3] for line in output.splitlines()[-3:]], [b"334", b"501", b"250"])
        self.assertEqual(session.senders, [])

    def test_commands_injected_before_tls_are_not_run(self) -> None:
        """A login and mail behind STARTTLS in the same segment end the session."""
        session = Session(tls=False)
        output = session.send(f"EHLO c\r\nSTARTTLS\r\nEHLO c\r\nAUTH PLAIN {GOOD}\r\n{MAIL}\r\n".encode())
        self.assertEqual(output.splitlines()[-1][:9], b"554 5.5.0")
        self.assertTrue(session.machine.closed)
        self.assertEqual((session.credentials, session.senders), ([], []))

    def test_only_auth_may_have_long_lines(self) -> None:
        """RFC 4954 4: 12 288 octets for the command and for each response; no more (500 5.5.6), and not in clear."""
        room = MAX_AUTH_LINE - len("AUTH PLAIN \r")
        longest = b64(b"\0alice\0" + b"x" * (room // 4 * 3 - 7))
        session = Session()
        session.lines("EHLO c")
        for part in (3000, len(longest)):
            self.assertEqual(session.send(b"AUTH PLAIN " + longest[:part].encode()), b"")
            self.assertEqual(session.send(longest[part:].encode() + b"\r\n")[:3], b"535")
        session = Session()
        session.lines("EHLO c", "AUTH PLAIN")
        self.assertEqual(session.send(longest.encode() + b"\r\n")[:3], b"535")
        session.lines("AUTH PLAIN")
        for _ in range(20):
            self.assertEqual(session.send(b"A" * 5000), b"")
        self.assertEqual(session.send(b"\r\nNOOP\r\n").split(b"\r\n")[0][:9], b"500 5.5.6")
        self.assertEqual(session.lines("NOOP")[0][:3], "250")
        session = Session(tls=False)
        session.lines("EHLO c")
        self.assertEqual(session.send(b"AUTH PLAIN " + b"A" * 3000 + b"\r\n")[:9], b"500 5.5.2")

    def test_a_response_with_a_bare_lf_ends_the_session(self) -> None:
        """As with every line."""
        session = Session()
        session.lines("EHLO c", "AUTH PLAIN")
        self.assertEqual(session.send(GOOD.encode() + b"\n")[:9], b"500 5.5.2")
        self.assertTrue(session.machine.closed)

    def test_failed_logins_end_the_session(self) -> None:
        """421 4.7.0 after the last one that is allowed."""
        session = Session()
        session.lines("EHLO c")
        output = session.send(f"AUTH PLAIN {WRONG}\r\n".encode() * (MAX_FAILED_LOGINS + 2))
        self.assertEqual(output.count(b"535 "), MAX_FAILED_LOGINS)
        self.assertEqual(output.splitlines()[-1][:9], b"421 4.7.0")
        self.assertTrue(session.machine.closed)

    def test_an_operator_may_end_it_with_421(self) -> None:
        """The answer to AUTH is then the last word."""
        machine = Server(LIMITS, tls=True)
        machine.receive(f"EHLO c\r\nAUTH PLAIN {WRONG}\r\nNOOP\r\n".encode())
        self.assertIsInstance(machine.next_event(), events.Auth)
        self.assertTrue(machine.waiting)
        machine.answer(b"421 4.7.0 Banned\r\n")
        self.assertIsNone(machine.next_event())
        self.assertTrue(machine.closed)

    def test_half_a_dialogue_and_then_quit(self) -> None:
        """QUIT within the exchange is a response and no command; after `*` it is one."""
        replies = Session().lines("EHLO c", "AUTH LOGIN", b64(b"alice"), "*", "QUIT")
        self.assertEqual([line[:3] for line in replies[1:]], ["334", "334", "501", "221"])
