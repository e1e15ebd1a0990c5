"""Two messages where the client sent one, commands within messages and messages within commands: on every door.

The published sequences (SMTP smuggling, CVE-2023-51764 and its kin) against the whole service; tests/wire has them cut
at every octet.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.mailboxes import messages
from tests.support.programs import SmtpSink
from tests.support.router import Router, until
from tests.support.talk import ACCOUNT, DOORS, HOSTNAME, SENDING, USER, Door, Talk, open_door
from tests.wire.smtp.test_data import OUTBOUND

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
    - name: sink
      match: {{recipients: ["*@sink.test"]}}
      action: {{type: forward, targets: [{{host: 127.0.0.1, port: $sink}}]}}
  security: {{max_connections_per_ip: 1000}}
"""
HEAD = f"From: {USER}\r\nSubject: battery\r\n\r\n".encode()
COMMANDS = f"MAIL FROM:<{USER}>\r\nRCPT TO:<victim@example.test>\r\nDATA\r\n".encode() + HEAD + b"smuggled"
"""What a client hides behind a false end; the true end comes after it."""
SEQUENCES = (*OUTBOUND, b"\r\n.\r\x00\n", b"\r\n.\n\r\n", b"\n\r.\r\n", b"\r\n\r.\r\n")
"""What must not end a message: the union of the published lists, and more."""


class SmugglingTests(SynchronousTestCase):
    router: Router
    sink: SmtpSink

    @classmethod
    def setUpClass(cls) -> None:
        cls.sink = SmtpSink()
        cls.addClassCleanup(cls.sink.close)
        cls.router = Router(TEXT, ports=("smtp", "submission", "smtps"), sink=cls.sink.port)
        cls.addClassCleanup(cls.router.close)

    def accepted(self) -> int:
        return int(self.router.counters("mail")["accepted"])

    def mails(self, box: str) -> list[bytes]:
        return [one.raw for one in messages(self.router.state / "maildir" / box)]

    def assertUsable(self, talk: Talk) -> None:
        """The session stands where a client thinks it does."""
        self.assertEqual([one[:4] for one in talk.pipeline("NOOP", "QUIT")], [b"250 ", b"221 "])
        self.assertEqual(talk.rest(), [])

    def send(self, door: Door, stream: bytes, *, by_octet: bytes = b"") -> None:
        """A message with false ends in it is one message, refused at its true end; and nothing is left over."""
        with open_door(self.router, door) as talk:
            talk.begin("box@example.test")
            if by_octet:
                before, _, after = stream.partition(by_octet)
                talk.send(before)
                for octet in by_octet:
                    talk.send(bytes((octet,)))
                stream = after
            talk.send(stream)
            self.assertEqual(talk.reply()[:10], b"550 5.5.2 ", (door, stream))
            self.assertUsable(talk)

    def test_no_sequence_ends_a_message_before_its_end(self) -> None:
        """Inside the text and as its first octets, at once and octet by octet: 550 5.5.2 once, and no other reply."""
        before = self.accepted()
        for sequence in SEQUENCES:
            for door in SENDING:
                for text in (HEAD + b"text", b""):
                    self.send(door, text + sequence + COMMANDS + b"\r\n.\r\n")
            for door in (SENDING[0], SENDING[-1]):
                self.send(door, HEAD + b"text" + sequence + COMMANDS + b"\r\n.\r\n", by_octet=sequence)
        self.assertEqual(self.accepted(), before)
        self.assertEqual(self.mails("victim@example.test"), [])

    def test_what_follows_the_true_end_is_commands(self) -> None:
        """That is pipelining, and no smuggling: the client that sends it is the one that may send the second message.

        A flaw before the end spoils the first message, and not the second.
        """
        count = len(self.mails("second@example.test"))
        for door in SENDING:
            for text, code in ((b"text", b"250 "), (b"te\rxt", b"550 "), (b"te\nxt", b"550 "), (b"te\0xt", b"550 ")):
                with open_door(self.router, door) as talk:
                    talk.begin("first@example.test")
                    second, _, content = COMMANDS.replace(b"victim", b"second").partition(HEAD)
                    talk.send(HEAD + text + b"\r\n.\r\n" + second)
                    replies = [talk.reply()[:4] for _ in range(4)]
                    self.assertEqual(replies, [code, b"250 ", b"250 ", b"354 "], (door, text))
                    talk.send(HEAD + content + b"\r\n.\r\n")
                    self.assertEqual(talk.reply()[:4], b"250 ", (door, text))
                    self.assertUsable(talk)
                count += 1
        until(lambda: len(self.mails("second@example.test")) == count)

    def test_dots_and_long_lines_arrive_as_they_were(self) -> None:
        """Every kind of dot line, to a Maildir and to the next server; and lines of up to 65 536 octets."""
        lines = [b"", b".", b"..", b"...", b". ", b".\t", b" .", b".x", b"x.", b".\x7f", b"\xff.", b".QUIT", b"."]
        lines += [b"y" * size for size in (998, 999, 2049, 65536)] + [b"." * 1000, b""]
        text = b"".join(line + b"\r\n" for line in lines)
        wire = (HEAD + text).replace(b"\r\n.", b"\r\n..") + b".\r\n"
        for number, door in enumerate(SENDING):
            box = f"dots{number}@example.test"
            with open_door(self.router, door) as talk:
                talk.begin(box, f"dots{number}@sink.test")
                talk.send(wire)
                self.assertEqual(talk.reply()[:4], b"250 ", door)
                self.assertUsable(talk)
            until(lambda box=box: self.mails(box))
            (raw,) = self.mails(box)
            self.assertEqual(raw.partition(b"\n\n")[2], text.replace(b"\r\n", b"\n"), door)
        lf = text.replace(b"\r\n", b"\n")
        until(lambda: sum(one.partition(b"\n\n")[2].rstrip() == lf.rstrip() for one in self.sink.messages()) == 5)

    def test_lines_that_are_too_long_are_refused_and_read_over(self) -> None:
        """A line of the message, a command, a command without an end: one refusal, and the session goes on."""
        for door in SENDING:
            with open_door(self.router, door) as talk:
                talk.begin("box@example.test")
                talk.send(HEAD + b"y" * 65537 + b"\r\n.\r\n")
                self.assertEqual(talk.reply()[:10], b"554 5.6.0 ", door)
                self.assertUsable(talk)
        for door in DOORS:
            with open_door(self.router, door) as talk:
                for size in (2047, 100_000, 2_000_000):
                    self.assertEqual(talk.say(b"NOOP " + b"y" * size)[:4], b"500 ", (door, size))
                self.assertEqual(talk.say(b"NOOP " + b"y" * 2042)[:4], b"250 ", door)
                self.assertUsable(talk)

    def test_commands_end_with_crlf(self) -> None:
        """A lone LF ends the session and nothing behind it is run; a lone CR and a NUL are errors."""
        before = self.accepted()
        hidden = COMMANDS.replace(b"\r\n", b"\n") + b"\n.\n"
        for door in DOORS:
            for line in (b"NOOP\n", b"\n", b"RSET\nNOOP\r\n", hidden, b"NOOP\n" + COMMANDS + b"\r\n.\r\n"):
                with open_door(self.router, door) as talk:
                    talk.send(line)
                    replies = talk.rest()
                    self.assertEqual([one[:10] for one in replies], [b"500 5.5.2 "], (door, line))
            with open_door(self.router, door) as talk:
                for line in (b"NOOP\r", b"NO\rOP", b"NOOP \0", b"NOOP\0", b"RSET \rNOOP", b"MAIL FROM:<a@x.test>\r"):
                    self.assertEqual(talk.say(line)[:2], b"50", (door, line))
                self.assertUsable(talk)
        self.assertEqual(self.accepted(), before)

    def test_content_of_other_protocols_is_never_run_as_commands(self) -> None:
        """HTTP: the session ends, whatever comes behind."""
        before = self.accepted()
        for door in DOORS:
            for first in (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / \r\n"):
                with open_door(self.router, door) as talk:
                    talk.send(first + COMMANDS + b"\r\n.\r\n")
                    self.assertEqual([one[:10] for one in talk.rest()], [b"502 5.5.1 "], (door, first))
        self.assertEqual(self.accepted(), before)

    def test_a_chunk_is_content_to_its_last_octet(self) -> None:
        """RFC 3030 2: refused outside a transaction or taken within one, what it says is never run; no dot ends it, a
        false end spoils it, and a length that cannot be read ends the session.
        """
        before = self.accepted()
        content = COMMANDS + b"\r\n.\r\nQUIT\r\n"
        for door in DOORS:
            with open_door(self.router, door) as talk:
                talk.send(b"BDAT %d LAST\r\n" % len(content) + content)
                self.assertEqual(talk.reply()[:1], b"5", door)
                self.assertUsable(talk)
            with open_door(self.router, door) as talk:
                talk.send(b"BDAT %d0 LAST now\r\n" % len(content) + content)
                self.assertEqual([one[:1] for one in talk.rest()], [b"5"], door)
        self.assertEqual(self.accepted(), before)
        for number, door in enumerate(SENDING):
            for sequence in SEQUENCES:
                spoilt = HEAD + b"text" + sequence + COMMANDS
                with open_door(self.router, door) as talk:
                    talk.pipeline(f"MAIL FROM:<{USER}>", "RCPT TO:<box@example.test>")
                    talk.send(b"BDAT %d LAST\r\n" % len(spoilt) + spoilt)
                    self.assertEqual(talk.reply()[:10], b"550 5.5.2 ", (door, sequence))
                    self.assertUsable(talk)
            box = f"chunk{number}@example.test"
            with open_door(self.router, door) as talk:
                talk.pipeline(f"MAIL FROM:<{USER}>", f"RCPT TO:<{box}>")
                talk.send(b"BDAT %d\r\n" % len(HEAD) + HEAD)
                self.assertEqual(talk.reply()[:4], b"250 ", door)
                talk.send(b"BDAT %d LAST\r\n" % len(content) + content)
                self.assertEqual(talk.reply()[:4], b"250 ", door)
                self.assertUsable(talk)
            until(lambda box=box: self.mails(box))
            (raw,) = self.mails(box)
            self.assertEqual(raw.partition(b"\n\n")[2], content.replace(b"\r\n", b"\n"))
        self.assertEqual(self.mails("victim@example.test"), [])

    def test_a_message_that_did_not_wait_for_354_is_never_run_as_commands(self) -> None:
        """DATA that is refused, with the text behind it in the same breath: the session ends."""
        before = self.accepted()
        text = HEAD + b"text\r\n" + COMMANDS + b"\r\n.\r\n"
        for door in DOORS:
            for first in (b"DATA\r\n", b"MAIL FROM:<%s>\r\nDATA\r\n" % USER.encode()):
                with open_door(self.router, door) as talk:
                    talk.send(first + text)
                    *_, last = talk.rest()
                    self.assertEqual(last[:10], b"554 5.5.0 ", (door, first))
        self.assertEqual(self.accepted(), before)

    def test_a_client_that_leaves_within_its_message_has_sent_none(self) -> None:
        """Before the end mark, within it, and behind a false one."""
        before = self.accepted()
        for door in SENDING:
            for end in (b"", b"\r\n", b"\r\n.", b"\r\n.\r", b"\n.\n", b"\r\n.\n", b"\r.\r"):
                with open_door(self.router, door) as talk:
                    talk.begin("box@example.test")
                    talk.send(HEAD + b"text" + end)
        until(lambda: self.router.counters("mail")["connections"] == 0)
        self.assertEqual(self.accepted(), before)
