"""How a session opens, as playbooks: STARTTLS, AUTH, LMTP, and questions without a message."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.smtp.client import (
    Answered,
    Client,
    Credentials,
    Finished,
    Ready,
    SendBody,
    StartTls,
    Transaction,
    Unusable,
)

WHO = Credentials(user="\u00fcser", password="p\u00e4ss word")
PLAIN = b64encode("\0\u00fcser\0p\u00e4ss word".encode())
TLS = [b"250-mx", b"250-AUTH PLAIN", b"250 STARTTLS"]
TWO = Transaction("a@x.example", ["b@y.example", "c@y.example"], 100, False)


class Playbook(SynchronousTestCase):
    def open(self, **options: Any) -> None:
        self.client = Client("me.example", **options)

    def hear(self, *lines: bytes) -> list[object]:
        return list(self.client.receive(b"".join(line + b"\r\n" for line in lines)))

    def said(self) -> list[bytes]:
        return self.client.take_output().splitlines()

    def unusable(self, *lines: bytes) -> Unusable:
        (event,) = self.hear(*lines)
        assert isinstance(event, Unusable)
        self.assertFalse(self.client.usable)
        return event


class StartTlsTests(Playbook):
    def test_tls_comes_before_everything_else_and_ehlo_after_it(self) -> None:
        """RFC 3207 4.2: what was announced in clear is forgotten."""
        for tls in ("opportunistic", "required"):
            self.open(tls=tls)
            self.hear(b"220 hi")
            self.assertEqual(self.hear(*TLS), [])
            self.assertEqual(self.said(), [b"EHLO me.example", b"STARTTLS"])
            self.assertEqual(self.client.phase, "starttls")
            self.assertEqual(self.hear(b"220 go"), [StartTls()])
            self.assertEqual(self.client.phase, "tls")
            self.client.secured()
            self.assertEqual(self.said(), [b"EHLO me.example"])
            self.assertEqual(self.hear(b"250 mx"), [Ready()])
            self.assertEqual(self.client.extensions, {})

    def test_octets_behind_220_are_an_error(self) -> None:
        """A whole reply, or the beginning of one, with it or before the handshake."""
        for first, second in ((b"220 go\r\n250 x\r\n", b""), (b"220 go\r\n25", b""), (b"220 go\r\n", b"250 x\r\n")):
            self.open(tls="opportunistic")
            self.hear(b"220 hi", *TLS)
            with self.assertRaises(WireError):
                self.client.receive(first)
                self.client.receive(second)

    def test_starttls_refused(self) -> None:
        """Opportunistic: on in clear. Required, or 421: no session."""
        self.open(tls="opportunistic")
        self.hear(b"220 hi", *TLS)
        self.assertEqual(self.hear(b"454 4.7.0 no"), [Ready()])
        for tls, reply in (("required", b"454 4.7.0 no"), ("required", b"500 what"), ("opportunistic", b"421 bye")):
            self.open(tls=tls)
            self.hear(b"220 hi", *TLS)
            self.assertEqual(self.unusable(reply).status, "4.7.4")

    def test_starttls_that_is_not_offered(self) -> None:
        """Nor HELO, where TLS is required."""
        self.open(tls="required")
        self.hear(b"220 hi")
        self.assertEqual(self.unusable(b"250 mx").status, "4.7.4")
        self.open(tls="required")
        self.hear(b"220 hi", b"500 what")
        self.assertEqual(self.unusable(b"250 mx").status, "4.7.4")
        self.open(tls="none")
        self.hear(b"220 hi")
        self.assertEqual(self.hear(*TLS), [Ready()])

    def test_inside_of_tls_there_is_no_helo(self) -> None:
        """EHLO is known there: a 5xx is a refusal."""
        self.open(encrypted=True)
        self.hear(b"220 hi")
        self.assertEqual(self.unusable(b"550 go away").reply.code, 550)  # type: ignore[union-attr]


class AuthTests(Playbook):
    def greet(self, mechanisms: bytes) -> list[object]:
        self.open(encrypted=True, credentials=WHO)
        self.hear(b"220 hi")
        self.said()
        return self.hear(b"250-mx", b"250 " + mechanisms)

    def test_plain_in_one_step_or_two(self) -> None:
        """RFC 4954 4: with an initial response; once more for a server that asks for it."""
        self.assertEqual(self.greet(b"AUTH LOGIN PLAIN"), [])
        self.assertEqual(self.said(), [b"AUTH PLAIN " + PLAIN])
        self.assertEqual(self.hear(b"334 "), [])
        self.assertEqual(self.said(), [PLAIN])
        self.assertEqual(self.hear(b"235 2.7.0 in"), [Ready()])

    def test_login_where_only_that_is_offered(self) -> None:
        """User, then password."""
        self.greet(b"AUTH LOGIN")
        self.assertEqual(self.said(), [b"AUTH LOGIN"])
        self.hear(b"334 VXNlcm5hbWU6")
        self.assertEqual(self.said(), [b64encode("\u00fcser".encode())])
        self.hear(b"334 UGFzc3dvcmQ6")
        self.assertEqual(self.said(), [b64encode("p\u00e4ss word".encode())])
        self.assertEqual(self.hear(b"235 in"), [Ready()])

    def test_logins_that_fail(self) -> None:
        """5xx and endless questions need an operator; 4xx comes again; nothing that was sent is repeated."""
        for replies, status in (
            ((b"535 5.7.8 no",), "4.7.8"),
            ((b"454 4.7.0 later",), "4.7.0"),
            ((b"334 a", b"334 b"), "4.7.8"),
            ((b"500 what is " + PLAIN,), "4.7.8"),
        ):
            self.greet(b"AUTH PLAIN")
            for reply in replies[:-1]:
                self.assertEqual(self.hear(reply), [])
            event = self.unusable(replies[-1])
            self.assertEqual(event.status, status)
            self.assertNotIn(PLAIN.decode(), event.reason)
        (unknown,) = self.greet(b"AUTH CRAM-MD5")
        assert isinstance(unknown, Unusable)
        self.assertEqual((unknown.status, "CRAM-MD5" in unknown.reason), ("4.7.8", True))

    def test_no_login_in_clear(self) -> None:
        """Even where it is offered there; and credentials do not show what they are."""
        self.open(tls="none", credentials=WHO)
        self.hear(b"220 hi")
        self.said()
        self.assertEqual(self.unusable(b"250-mx", b"250 AUTH PLAIN").status, "4.7.4")
        self.assertEqual(self.said(), [])
        self.assertNotIn("ss word", repr(WHO))


class LmtpTests(Playbook):
    def greet(self) -> None:
        self.open(lmtp=True)
        self.hear(b"220 hi")
        self.assertEqual(self.said(), [b"LHLO me.example"])
        self.assertEqual(self.hear(b"250-mx", b"250 PIPELINING"), [Ready()])

    def test_each_recipient_that_was_taken_has_a_reply_of_its_own(self) -> None:
        """RFC 2033 4.2, in order; the session goes on after the last."""
        three = TWO._replace(recipients=["b@y.example", "who@y.example", "c@y.example"])
        self.greet()
        self.client.begin(three)
        self.assertEqual(self.hear(b"250 ok", b"250 b", b"550 5.1.1 who", b"250 c", b"354 go"), [SendBody()])
        self.client.body_sent()
        self.assertEqual(self.hear(b"250 in"), [Answered()])
        self.assertEqual(self.client.phase, "final")
        self.assertEqual([reply and reply.code for reply in self.client.answers()], [250, 550, None])
        (event,) = self.hear(b"452 4.2.2 full")
        assert isinstance(event, Finished)
        self.assertEqual([reply.code for reply in event.replies], [250, 550, 452])
        self.assertTrue(self.client.usable)

    def test_nobody_is_left(self) -> None:
        """503 as RFC 2033 has it; a 354 all the same gets an empty end, and the session is not used again."""
        for reply, usable in ((b"503 nobody", True), (b"354 go", False)):
            self.greet()
            self.client.begin(TWO)
            (event,) = self.hear(b"250 ok", b"550 b", b"550 c", reply)
            assert isinstance(event, Finished)
            self.assertEqual(([one.code for one in event.replies], event.usable), ([550, 550], usable))

    def test_there_is_no_helo(self) -> None:
        """A server that does not know LHLO speaks something else."""
        self.open(lmtp=True)
        self.hear(b"220 hi")
        self.assertEqual(self.unusable(b"500 what").status, "4.3.2")


class QuestionTests(Playbook):
    def ask(self, ehlo: bytes = b"250 PIPELINING") -> None:
        self.open()
        self.hear(b"220 hi", b"250-mx", ehlo)
        self.said()
        self.client.begin(Transaction("", ["b@y.example"], 0, eightbit=False, question=True))

    def test_the_answer_is_that_to_rcpt(self) -> None:
        """Nothing is sent; the next transaction begins with RSET."""
        for reply, ehlo in ((b"250 ok", b"250 PIPELINING"), (b"550 5.1.1 who", b"250 SIZE")):
            self.ask(ehlo)
            events = self.hear(b"250 ok") + self.hear(reply)
            (event,) = events
            assert isinstance(event, Finished)
            self.assertEqual(event.replies[0].text, reply.decode())
            self.assertEqual(self.said(), [b"MAIL FROM:<>", b"RCPT TO:<b@y.example>"])
            self.client.begin(TWO)
            self.assertEqual(self.said()[0], b"RSET")

    def test_a_refused_sender_says_nothing_of_the_recipient(self) -> None:
        """A 450 of ours, whatever the server said."""
        self.ask()
        (event,) = self.hear(b"550 5.7.1 no null sender", b"503 first MAIL")
        assert isinstance(event, Finished)
        self.assertEqual((event.replies[0].code, "no null sender" in event.replies[0].text), (450, True))
