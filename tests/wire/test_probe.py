from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.probe import LONGEST_LINE, HttpProbe, Probe, SmtpProbe


class ProbeTest(SynchronousTestCase):
    def answers(self, probe: Probe, data: bytes, size: int) -> tuple[bytes, bool]:
        """What is said to `data` in pieces of `size`, and whether that was the end."""
        said = b""
        for at in range(0, len(data), size):
            words = probe.feed(data[at : at + size])
            if words is None:
                return said, True
            said += words
        return said, False

    def problem(self, probe: Probe, data: bytes) -> str:
        """Why `data` is bad, whole and in single bytes."""
        with self.assertRaises(WireError) as caught:
            self.answers(probe, data, 1)
        return str(caught.exception)


class HttpTests(ProbeTest):
    def probe(self) -> HttpProbe:
        return HttpProbe("a.test:80", "/health?x=1", (200, 204))

    def test_the_request(self) -> None:
        """One that every server understands, and after which it closes."""
        head = self.probe().opening
        self.assertTrue(head.startswith(b"GET /health?x=1 HTTP/1.1\r\nHost: a.test:80\r\n"))
        self.assertIn(b"\r\nConnection: close\r\n", head)
        self.assertTrue(head.endswith(b"\r\n\r\n"))

    def test_a_good_status_ends_it_wherever_it_is_cut(self) -> None:
        """The rest of the answer is not waited for."""
        for line in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 204\r\n", b"HTTP/1.1 200 \n"):
            for size in range(1, len(line) + 1):
                self.assertEqual(self.answers(self.probe(), line, size), (b"", True))

    def test_other_answers_say_what_was_wrong(self) -> None:
        """The status and its words, without what would move a terminal."""
        self.assertEqual(self.problem(self.probe(), b"HTTP/1.1 503 Down\x1b[2J\r\n"), "answered 503 Down?[2J")
        self.assertEqual(self.problem(self.probe(), b"HTTP/1.1 404\r\n"), "answered 404")
        self.assertEqual(self.problem(self.probe(), b"SSH-2.0-x\r\n"), "not an HTTP answer")
        self.assertEqual(self.problem(self.probe(), b"x" * (LONGEST_LINE + 1)), "an HTTP status line without end")


class SmtpTests(ProbeTest):
    def test_greeting_and_ehlo(self) -> None:
        """EHLO is said after the greeting, and its whole reply is read."""
        talk = b"220-hello\r\n220 there\r\n250-a.test\r\n250 PIPELINING\r\n"
        for size in range(1, len(talk)):
            self.assertEqual(self.answers(SmtpProbe("me.test"), talk, size)[1], True)
        probe = SmtpProbe("me.test")
        self.assertEqual((probe.feed(b"220 "), probe.feed(b"ready\r\n")), (b"", b"EHLO me.test\r\n"))
        self.assertIsNone(probe.feed(b"250 a.test\r\n"))

    def test_refusals(self) -> None:
        """Each with the server's words."""
        self.assertEqual(self.problem(SmtpProbe("me"), b"554 5.3.2 closed\r\n"), "greeting: 554 5.3.2 closed")
        self.assertEqual(self.problem(SmtpProbe("me"), b"220 x\r\n550 no\r\n"), "EHLO: 550 no")
        self.assertIn("not an SMTP reply", self.problem(SmtpProbe("me"), b"HTTP/1.1 400 Bad\r\n"))
