"""Commands injected around STARTTLS (RFC 3207, CVE-2011-0411 and its kin): none is run, and no state crosses over."""

from __future__ import annotations

import contextlib
import socket
import ssl

from twisted.trial.unittest import SynchronousTestCase

from tests.support.mailboxes import messages
from tests.support.router import Router, until
from tests.support.talk import ACCOUNT, DOORS, HOSTNAME, USER, Talk, open_door, plain

TEXT = f"""
email:
  hostname: {HOSTNAME}
  postmaster: root@example.test
  ports: [{{port: $smtp, kind: smtp}}, {{port: $submission, kind: submission}}, {{port: $smtps, kind: smtps}}]
  auth: {{users: [{ACCOUNT}]}}
  rules:
    - name: local
      match: {{recipients: ["*@example.test"]}}
      action: {{type: deliver, maildir: "maildir/{{recipient}}"}}
  security: {{max_connections_per_ip: 1000}}
"""
MAIL = f"MAIL FROM:<{USER}>\r\nRCPT TO:<victim@example.test>\r\nDATA\r\nFrom: {USER}\r\n\r\nx\r\n.\r\n".encode()
INJECTED = (
    b"RSET\r\n",
    b"NOOP\r\n",
    b"QUIT\r\n",
    b"STARTTLS\r\n",
    b"EHLO evil.test\r\n",
    b"EHLO evil.test\r\n" + MAIL,
    MAIL,
    plain().encode() + b"\r\n",
    b"EHLO evil.test\r\n" + plain().encode() + b"\r\n" + MAIL,
    b"\r\n",
    b"\n",
    b"\0",
    b"R",
    b"RSET\r\n" * 1000,
)
CLEAR = tuple(door for door in DOORS if not door.tls)


def hello() -> bytes:
    """What a client of TLS says first."""
    outer = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outer, server_hostname=HOSTNAME)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outer.read()


class StartTlsTests(SynchronousTestCase):
    router: Router

    @classmethod
    def setUpClass(cls) -> None:
        cls.router = Router(TEXT, ports=("smtp", "submission", "smtps"))
        cls.addClassCleanup(cls.router.close)

    def setUp(self) -> None:
        self.accepted = self.router.counters("mail")["accepted"]

    def tearDown(self) -> None:
        """Nobody has got anything through."""
        until(lambda: self.router.counters("mail")["connections"] == 0)
        self.assertEqual(self.router.counters("mail")["accepted"], self.accepted)
        self.assertEqual(messages(self.router.state / "maildir" / "victim@example.test"), [])

    def secure(self, talk: Talk) -> None:
        talk.secure(self.router.state / "internal-ca" / "ca.pem")

    def test_what_is_pipelined_behind_starttls_ends_the_session(self) -> None:
        """In the same segment: one 554 and the end, in clear; a client that begins its handshake there has none."""
        for door in CLEAR:
            for injected in (*INJECTED, hello(), b"NOOP\r\n" + hello()):
                with open_door(self.router, door) as talk:
                    talk.send(b"STARTTLS\r\n" + injected)
                    self.assertEqual([one[:10] for one in talk.rest()], [b"554 5.5.0 "], (door, injected))

    def test_what_comes_in_clear_behind_the_220_is_a_broken_hello(self) -> None:
        """A TLS alert or a cut; no reply of SMTP, neither in clear nor, to a client that goes on, in TLS."""
        for door in CLEAR:
            for injected in INJECTED:
                with open_door(self.router, door) as talk:
                    self.assertEqual(talk.say("STARTTLS")[:4], b"220 ")
                    talk.send(injected)
                    talk.sock.shutdown(socket.SHUT_WR)
                    for said in talk.rest():
                        self.assertEqual(said[:2], b"\x15\x03", (door, injected))
                with open_door(self.router, door) as talk:
                    self.assertEqual(talk.say("STARTTLS")[:4], b"220 ")
                    talk.send(injected)
                    with self.assertRaises((ssl.SSLError, ConnectionError, BrokenPipeError)):
                        self.secure(talk)

    def test_nothing_of_the_clear_session_crosses_over(self) -> None:
        """EHLO, a transaction, half a login: all is forgotten, and the first reply in TLS is that to its own EHLO."""
        begun = (f"MAIL FROM:<{USER}>", "RCPT TO:<victim@example.test>")
        for door in CLEAR:
            for before in ((), begun, begun[:1], ("AUTH LOGIN",), (plain(),)):
                for first in ((begun[0], 503), (begun[1], 503), ("DATA", 503), (plain(), 503), ("STARTTLS", 503)):
                    with open_door(self.router, door) as talk:
                        talk.pipeline(*before)
                        self.assertEqual(talk.say("STARTTLS")[:4], b"220 ")
                        self.secure(talk)
                        line, code = first
                        self.assertEqual(talk.say(line)[:4], f"{code} ".encode(), (door, before, line))
                        said = talk.say("EHLO client.test")
                        self.assertNotIn(b"STARTTLS", said)
                        self.assertIn(b"AUTH PLAIN LOGIN", said)
                        replies = talk.pipeline("RCPT TO:<victim@example.test>", "DATA", "QUIT")
                        self.assertEqual([one[:4] for one in replies], [b"503 ", b"503 ", b"221 "])

    def test_starttls_is_for_those_who_may(self) -> None:
        """Neither with an argument, nor before EHLO or after HELO, nor a second time; and the session goes on."""
        for door in CLEAR:
            with open_door(self.router, door) as talk:
                replies = [talk.say(line)[:4] for line in ("STARTTLS now", "STARTTLS \0", "starttls\r", "NOOP")]
                self.assertEqual(replies, [b"501 ", b"500 ", b"500 ", b"250 "], door)
                talk.say("HELO client.test")
                self.assertEqual(talk.say("STARTTLS")[:4], b"503 ", door)
            with Talk(self.router.ports[door.kind]) as talk:
                talk.reply()
                self.assertEqual(talk.say("STARTTLS")[:4], b"503 ", door)
            with open_door(self.router, door) as talk:
                talk.send(b"STARTTLS\nRSET\r\n")
                self.assertEqual([one[:10] for one in talk.rest()], [b"500 5.5.2 "], door)
        for door in DOORS:
            if door.tls:
                with open_door(self.router, door) as talk:
                    self.assertNotIn(b"STARTTLS", talk.say("EHLO client.test"))
                    replies = talk.pipeline("STARTTLS", "NOOP", "QUIT")
                    self.assertEqual([one[:4] for one in replies], [b"503 ", b"250 ", b"221 "], door)

    def test_a_login_in_clear_is_never_taken(self) -> None:
        """Neither announced nor run, with its response or in steps, whatever is pipelined behind it."""
        for door in CLEAR:
            code = b"530 " if door.kind == "submission" else b"538 "
            with open_door(self.router, door) as talk:
                self.assertNotIn(b"AUTH", talk.say("EHLO client.test"))
                self.assertEqual(talk.say(plain())[:4], code, door)
                self.assertEqual(talk.say("AUTH LOGIN")[:4], code, door)
                self.assertEqual(talk.say("YWxpY2U=")[:4], b"500 ", door)
                self.assertEqual(talk.say("RCPT TO:<victim@elsewhere.test>")[:4], b"503 ", door)

    def test_the_wrong_protocol_at_the_door(self) -> None:
        """SMTP in clear on the port of TLS, TLS on those of SMTP: an alert or one refusal, and the end."""
        for first in (b"EHLO client.test\r\n", MAIL, b"\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            with Talk(self.router.ports["smtps"], first=first) as talk:
                for said in talk.rest():
                    self.assertEqual(said[:2], b"\x15\x03", first)
        for door in CLEAR:
            with Talk(self.router.ports[door.kind]) as talk:
                self.assertEqual(talk.reply()[:4], b"220 ", door)
                talk.send(hello())
                talk.sock.shutdown(socket.SHUT_WR)
                self.assertEqual({one[:1] for one in talk.rest()} | {b"5"}, {b"5"}, door)
