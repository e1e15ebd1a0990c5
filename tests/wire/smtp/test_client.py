"""The client machine as playbooks: what the server says, what we send, what comes of it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.smtp.client import Client, Finished, Ready, SendBody, Transaction, Unusable

EHLO = b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n"
ONE = Transaction("a@x.example", ["b@y.example"], 100, False)
TWO = Transaction("", ["b@y.example", "c@y.example"], 100, True)


class ClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.client = Client("me.example")

    def hear(self, *lines: bytes) -> list[object]:
        return list(self.client.receive(b"".join(line + b"\r\n" for line in lines)))

    def said(self) -> list[bytes]:
        return self.client.take_output().splitlines()

    def greet(self, ehlo: bytes = EHLO) -> None:
        self.assertEqual(self.hear(b"220 hello"), [])
        self.assertEqual(self.said(), [b"EHLO me.example"])
        self.assertEqual(self.client.receive(ehlo), [Ready()])

    def codes(self, events: list[object]) -> list[int]:
        (event,) = events
        assert isinstance(event, Finished)
        return [reply.code for reply in event.replies]

    def test_a_message_is_pipelined(self) -> None:
        """One group up to DATA, the body after 354, one result, and the session is good for the next."""
        self.greet()
        self.assertIsNone(self.client.begin(ONE))
        self.assertEqual(self.said(), [b"MAIL FROM:<a@x.example> SIZE=100", b"RCPT TO:<b@y.example>", b"DATA"])
        self.assertEqual(self.hear(b"250 ok", b"250 ok", b"354 go"), [SendBody()])
        self.assertEqual(self.client.phase, "body")
        self.client.body_sent()
        self.assertEqual(self.client.phase, "final")
        self.assertEqual(self.codes(self.hear(b"250 2.0.0 queued")), [250])
        self.assertTrue(self.client.usable)
        self.client.begin(ONE)
        self.assertEqual(self.said()[0], b"MAIL FROM:<a@x.example> SIZE=100")

    def test_what_is_no_reply_is_told_with_what_it_should_have_answered(self) -> None:
        """Also where a good reply to the command before came in the same breath; as it stands, without what is not
        printable.
        """
        self.greet()
        self.client.begin(ONE)
        with self.assertRaises(WireError) as raised:
            self.hear(b"250 ok", b"99 wh\xe4t")
        self.assertEqual((str(raised.exception), self.client.phase), ("not an SMTP reply: 99 wh?t", "rcpt"))

    def test_without_pipelining_one_command_waits_for_the_other(self) -> None:
        """RFC 2920: groups only where they are offered."""
        self.greet(b"250 mx\r\n")
        self.client.begin(ONE)
        for reply, command in ((b"250 ok", b"RCPT TO:<b@y.example>"), (b"250 ok", b"DATA")):
            self.said()
            self.hear(reply)
            self.assertEqual(self.said(), [command])
        self.assertEqual(self.hear(b"354 go"), [SendBody()])

    def test_helo_where_ehlo_is_unknown(self) -> None:
        """An old server gets HELO, and nothing that it did not offer."""
        self.hear(b"220 hello")
        self.said()
        self.assertEqual(self.hear(b"500 what?"), [])
        self.assertEqual(self.said(), [b"HELO me.example"])
        self.assertEqual(self.hear(b"250 ok"), [Ready()])
        self.client.begin(ONE)
        self.assertEqual(self.said(), [b"MAIL FROM:<a@x.example>"])

    def test_sessions_that_are_refused(self) -> None:
        """A greeting or an EHLO refused makes the session unusable, with the reply."""
        for lines in ((b"554 no",), (b"421 busy",), (b"220 hi", b"421 busy"), (b"220 hi", b"500 what", b"502 no")):
            self.client = Client("me.example")
            events: list[object] = []
            for line in lines:
                events += self.hear(line)
            (event,) = events
            assert isinstance(event, Unusable)
            self.assertFalse(self.client.usable)

    def test_results_are_per_recipient(self) -> None:
        """Whoever was refused keeps that reply; the others get the final one."""
        self.greet()
        self.client.begin(TWO)
        self.assertEqual(self.said()[0], b"MAIL FROM:<> SIZE=100 BODY=8BITMIME")
        self.assertEqual(self.hear(b"250 ok", b"550 5.1.1 who", b"250 ok", b"354 go"), [SendBody()])
        self.client.body_sent()
        self.assertEqual(self.codes(self.hear(b"250 done")), [550, 250])

    def test_refusals_end_a_transaction(self) -> None:
        """At MAIL, at every RCPT, at DATA: one result each, all pipelined replies used up, RSET before the next."""
        for replies, codes in (
            ([b"550 no", b"503 x", b"503 x", b"503 x"], [550, 550]),
            ([b"250 ok", b"450 a", b"550 b", b"554 none"], [450, 550]),
            ([b"250 ok", b"250 a", b"550 b", b"451 later"], [451, 550]),
        ):
            self.client = Client("me.example")
            self.greet()
            self.client.begin(TWO)
            self.said()
            self.assertEqual(self.codes(self.hear(*replies)), codes)
            self.client.begin(ONE)
            self.assertEqual(self.said()[0], b"RSET")
            self.assertEqual(self.hear(b"250 ok", b"250 ok", b"250 ok", b"354 go"), [SendBody()])

    def test_refusals_without_pipelining(self) -> None:
        """What was not sent yet is not sent."""
        for replies, codes in (([b"550 no"], [550, 550]), ([b"250 ok", b"550 a", b"450 b"], [550, 450])):
            self.client = Client("me.example")
            self.greet(b"250-mx\r\n250 8BITMIME\r\n")
            self.client.begin(TWO)
            events: list[object] = []
            for reply in replies:
                events += self.hear(reply)
            self.assertEqual(self.codes(events), codes)
            self.assertNotIn(b"DATA", self.said())

    def test_354_for_nobody_gets_an_empty_end(self) -> None:
        """RFC 2920 3.1: a server that forgot its refusals does not get the message, nor another one."""
        self.greet()
        self.client.begin(TWO)
        self.said()
        self.assertEqual(self.hear(b"250 ok", b"550 a", b"550 b", b"354 go"), [])
        self.assertEqual(self.said(), [b"."])
        self.assertEqual(self.codes(self.hear(b"250 what")), [550, 550])
        self.assertFalse(self.client.usable)

    def test_what_the_server_announced_is_believed(self) -> None:
        """Too big, or 8-bit for a server that takes only 7: refused without asking."""
        self.greet(b"250-mx\r\n250 SIZE 99\r\n")
        finished = self.client.begin(ONE)
        assert finished is not None
        self.assertEqual((finished.replies[0].code, finished.replies[0].enhanced), (552, "5.3.4"))
        finished = self.client.begin(TWO._replace(size=1))
        assert finished is not None
        self.assertEqual([reply.enhanced for reply in finished.replies], ["5.6.3", "5.6.3"])
        self.assertTrue(self.client.usable)

    def test_421_makes_the_session_unusable(self) -> None:
        """In answer to a command, or out of the blue."""
        self.greet()
        self.client.begin(ONE)
        self.assertEqual(self.codes(self.hear(b"421 bye", b"503 x", b"503 x")), [421])
        self.assertFalse(self.client.usable)
        self.client = Client("me.example")
        self.greet()
        self.assertEqual(self.hear(b"421 bye"), [])
        self.assertFalse(self.client.usable)

    def test_a_refusal_within_the_message_finishes_it(self) -> None:
        """A server that has seen enough says so; its reply is the result, and the session is not used again."""
        self.greet()
        self.client.begin(ONE)
        self.hear(b"250 ok", b"250 ok", b"354 go")
        self.assertEqual(self.codes(self.hear(b"552 5.3.4 enough")), [552])
        self.assertFalse(self.client.usable)

    def test_garbage_is_an_error(self) -> None:
        """Whoever does not speak SMTP is not spoken to."""
        self.assertRaises(WireError, self.hear, b"SSH-2.0-OpenSSH_9.2")
