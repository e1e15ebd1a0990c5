"""The client machine as playbooks: what the server says, what we send, what comes of it."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.smtp.client import Client, Credentials, Finished, Ready, SendBody, Transaction, Unusable
from dcrouter.wire.smtp.parameters import Report, Wishes
from dcrouter.wire.smtp.transaction import NO_BINARY, NO_REQUIRETLS, NO_UTF8, TOO_MANY, limit

EHLO = b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n"
ONE = Transaction("a@x.example", ["b@y.example"], 100, False)
TWO = Transaction("", ["b@y.example", "c@y.example"], 100, True)


class Playbook(SynchronousTestCase):
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

    def codes(self, events: Sequence[object]) -> list[int]:
        (event,) = events
        assert isinstance(event, Finished)
        return [reply.code for reply in event.replies]


class ClientTests(Playbook):
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

    def test_what_must_be_last_in_a_group_is(self) -> None:
        """EHLO, STARTTLS, AUTH, DATA and QUIT: nothing is written behind them before their replies, whatever the server
        offers (RFC 2920 3.1, RFC 3207 4, RFC 4954 4).
        """
        secret = Credentials(user="me", password="secret")
        self.client = Client("me.example", tls="required", credentials=secret)
        written = []
        offers = (b"250-mx", b"250-PIPELINING", b"250-AUTH PLAIN", b"250 STARTTLS")
        for replies in ((b"220 hello",), offers, (b"220 go",)):
            self.hear(*replies)
            written.append(self.said())
        self.client.secured()
        written.append(self.said())
        self.hear(*offers[:2], b"250 AUTH PLAIN")
        written.append(self.said())
        self.hear(b"235 welcome")
        self.client.begin(ONE)
        written.append(self.said())
        self.hear(b"250 ok", b"250 ok", b"354 go")
        self.client.body_sent()
        self.hear(b"250 taken")
        self.client.quit()
        written.append(self.said())
        groups = [[line.split(b" ")[0] for line in group] for group in written]
        transaction = [b"MAIL", b"RCPT", b"DATA"]
        self.assertEqual(groups, [[b"EHLO"], [b"STARTTLS"], [], [b"EHLO"], [b"AUTH"], transaction, [b"QUIT"]])

    def test_the_first_digit_of_an_unknown_code_counts(self) -> None:
        """RFC 5321 4.2: what it says besides is for people; the code stays as it is."""
        for final, outcome in ((b"299 9.9.9 fine", 299), (b"459 later", 459), (b"599 never", 599)):
            self.client = Client("me.example")
            self.greet()
            self.client.begin(ONE)
            self.assertEqual(self.hear(b"259 hm", b"251 will forward", b"354 go"), [SendBody()])
            self.client.body_sent()
            self.assertEqual(self.codes(self.hear(final)), [outcome])

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

    def test_a_size_of_more_digits_than_there_are(self) -> None:
        """RFC 1870 4: at most twenty; more than Python reads as a number limits nothing."""
        self.greet(b"250-mx\r\n250 SIZE " + b"9" * 5000 + b"\r\n")
        self.assertIsNone(self.client.begin(ONE))

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

    def test_421_is_the_answer_where_the_connection_ends_behind_it(self) -> None:
        """To what was pipelined behind it, too; not to what was answered before, nor to a message under way."""
        self.greet()
        self.client.begin(TWO)
        self.assertIsNone(self.client.lost())
        self.hear(b"421 4.7.0 bye")
        finished = self.client.lost()
        assert finished is not None
        self.assertEqual(([one.code for one in finished.replies], finished.usable), ([421, 421], False))
        self.client = Client("me.example")
        self.greet()
        self.client.begin(TWO)
        self.hear(b"250 ok", b"550 no", b"421 4.7.0 bye")
        finished = self.client.lost()
        assert finished is not None
        self.assertEqual([one.code for one in finished.replies], [550, 421])
        self.client = Client("me.example")
        self.greet()
        self.client.begin(TWO)
        self.hear(b"250 ok", b"250 ok", b"421 bye", b"354 go")
        self.assertIsNone(self.client.lost())

    def test_what_was_refused_before_the_connection_ended_is_refused(self) -> None:
        """The sender, or each recipient, for good: that is the answer. Some of them: what is known of these is told."""
        for heard, codes in (((b"554 no",), [554, 554]), ((b"250 ok", b"550 no", b"551 nor"), [550, 551])):
            self.client = Client("me.example")
            self.greet()
            self.client.begin(TWO)
            self.assertEqual(self.hear(*heard), [])
            finished = self.client.lost()
            assert finished is not None
            self.assertEqual([one.code for one in finished.replies], codes)
        self.client = Client("me.example")
        self.greet()
        self.client.begin(TWO)
        self.hear(b"250 ok", b"550 no", b"450 later")
        self.assertIsNone(self.client.lost())
        self.assertEqual([one and one.code for one in self.client.answers()], [550, 450])

    def test_what_was_said_before_nonsense_counts(self) -> None:
        """The answer to a message, with something behind it that is no reply: it is the answer, and the last one."""
        self.greet()
        self.client.begin(ONE)
        self.hear(b"250 ok", b"250 ok", b"354 go")
        self.client.body_sent()
        self.assertEqual(self.codes(self.client.receive(b"250 taken\r\nOK\r\n")), [250])
        self.assertEqual((str(self.client.wrong), self.client.usable), ("not an SMTP reply: OK", False))
        self.client = Client("me.example")
        self.assertRaises(WireError, self.client.receive, b"220 hi\r\nOK\r\n")

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


EVERYTHING = (
    b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n"
    b"250-CHUNKING\r\n250-BINARYMIME\r\n250 MT-PRIORITY\r\n"
)
WISHES = Wishes(ret="full", envid="QQ+1", requiretls=False, priority=-2)
REPORTS = (Report("SUCCESS,DELAY", "rfc822;a+b@y.example"), Report())


class LimitsTests(Playbook):
    """RFC 9422."""

    EHLO = b"250-mx.example\r\n250-PIPELINING\r\n250 LIMITS %s\r\n"

    def test_no_more_recipients_than_the_server_takes(self) -> None:
        """RCPTMAX: the others are for the next transaction, whatever became of the first ones. RFC 9422 3."""
        many = Transaction("a@x.example", [f"b{number}@y.example" for number in range(5)], 100, False)
        self.greet(self.EHLO % b"MAILMAX=9 RCPTMAX=2 RCPTDOMAINMAX=1")
        self.client.begin(many)
        self.assertEqual([line[:6] for line in self.said()], [b"MAIL F", b"RCPT T", b"RCPT T", b"DATA"])
        self.assertEqual(self.hear(b"250 ok", b"250 ok", b"550 no", b"354 go"), [SendBody()])
        self.client.body_sent()
        (event,) = self.hear(b"250 ok")
        assert isinstance(event, Finished)
        self.assertEqual([reply.code for reply in event.replies], [250, 550, 452, 452, 452])
        self.assertTrue(all(reply is TOO_MANY for reply in event.replies[2:]) and event.usable)
        self.client.begin(many)
        self.assertEqual(self.codes(self.hear(b"250 ok", b"550 no", b"550 no", b"503 who")), [550, 550, 452, 452, 452])
        self.client.begin(many)
        self.assertEqual(
            self.codes(self.hear(b"250 reset", b"250 ok", b"450 no", b"550 no", b"503 who")), [450, 550, 452, 452, 452]
        )

    def test_no_more_messages_than_the_server_takes(self) -> None:
        """MAILMAX: then the session is not used again. RFC 9422 3."""
        self.greet(self.EHLO % b"MAILMAX=2")
        for usable in (True, False):
            self.client.begin(ONE)
            self.hear(b"250 ok", b"250 ok", b"354 go")
            self.client.body_sent()
            (event,) = self.hear(b"250 ok")
            assert isinstance(event, Finished)
            self.assertEqual((event.usable, self.client.usable), (usable, usable))

    def test_limits_that_nobody_can_mean(self) -> None:
        """Are none; other words too. RFC 9422 2: digits, no leading zero."""
        for words in ("", "RCPTMAX", "RCPTMAX=", "RCPTMAX=0", "RCPTMAX=07", "RCPTMAX=1000000", "RCPTMAX=-1", "X=1"):
            self.assertEqual(limit({"LIMITS": words}, "RCPTMAX"), float("inf"), words)
        self.assertEqual(limit({"LIMITS": "X MAILMAX=3 RCPTMAX=999999"}, "RCPTMAX"), 999_999)
        self.assertEqual(limit({}, "RCPTMAX"), float("inf"))


class WishesTests(Playbook):
    def greet(self, ehlo: bytes = EVERYTHING) -> None:
        super().greet(ehlo)

    def test_what_the_sender_asked_for_is_passed_on(self) -> None:
        """RET, ENVID, NOTIFY and ORCPT as xtext; nothing for who said nothing (RFC 3461 5.2.1); priority (RFC 6710
        4.3). To whom does not offer that nothing is said."""
        two = TWO._replace(wishes=WISHES, reports=REPORTS, eightbit=False)
        for ehlo, said in (
            (
                EVERYTHING,
                [
                    b"MAIL FROM:<> SIZE=100 RET=FULL ENVID=QQ+2B1 MT-PRIORITY=-2",
                    b"RCPT TO:<b@y.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@y.example",
                    b"RCPT TO:<c@y.example>",
                ],
            ),
            (EHLO, [b"MAIL FROM:<> SIZE=100", b"RCPT TO:<b@y.example>", b"RCPT TO:<c@y.example>"]),
        ):
            self.setUp()
            super().greet(ehlo)
            self.client.begin(two)
            self.assertEqual(self.said()[:3], said)
            self.assertEqual(self.client.told, "" if ehlo is EVERYTHING else "relayed")

    def test_utf8_goes_to_who_takes_it(self) -> None:
        """SMTPUTF8 with MAIL and addresses as they are; elsewhere 5.6.7, and nothing is said (RFC 6531 3.1, 3.2)."""
        one = Transaction("\u00fc@x.example", ["\u7528@y.example"], 9, True, smtputf8=True)
        self.greet()
        self.client.begin(one._replace(reports=(Report("", "utf-8;\u7528@z"),)))
        mail, rcpt, _ = self.said()
        self.assertEqual(mail.decode(), "MAIL FROM:<\u00fc@x.example> SIZE=9 BODY=8BITMIME SMTPUTF8")
        self.assertEqual(rcpt.decode(), "RCPT TO:<\u7528@y.example> ORCPT=utf-8;\u7528@z")
        self.setUp()
        super().greet(EHLO)
        finished = self.client.begin(one)
        assert finished is not None
        self.assertEqual((finished.replies, self.said()), ((NO_UTF8,), []))

    def test_binary_goes_in_one_chunk(self) -> None:
        """BODY=BINARYMIME and BDAT, when it is known that somebody wants it; no DATA (RFC 3030 2, 3)."""
        binary = TWO._replace(binary=True)
        self.greet()
        self.client.begin(binary)
        self.assertEqual(self.said()[0], b"MAIL FROM:<> SIZE=100 BODY=BINARYMIME")
        self.assertEqual(self.client.take_output(), b"")
        self.assertEqual(self.hear(b"250 ok", b"550 5.1.1 who", b"250 ok"), [SendBody(chunk=True)])
        self.assertEqual(self.said(), [b"BDAT 100 LAST"])
        self.assertEqual(self.client.phase, "body")
        self.client.body_sent()
        self.assertEqual(self.codes(self.hear(b"250 taken")), [550, 250])
        self.client.begin(binary)
        self.assertEqual(self.said()[0][:4], b"MAIL")
        self.assertEqual(self.codes(self.hear(b"250 ok", b"550 5.1.1 who", b"550 5.1.1 who")), [550, 550])
        self.client.begin(binary)
        self.assertEqual(self.said()[0], b"RSET")
        self.hear(b"250 ok", b"250 ok", b"250 ok", b"250 ok")
        self.said()
        self.client.body_sent()
        self.assertEqual(self.codes(self.hear(b"554 no")), [554, 554])
        self.client.begin(ONE)
        self.assertEqual(self.said()[0], b"RSET")

    def test_binary_needs_both_extensions(self) -> None:
        """5.6.3 where either is not offered."""
        for missing in (b"250-CHUNKING\r\n", b"250-BINARYMIME\r\n"):
            self.setUp()
            super().greet(EVERYTHING.replace(missing, b""))
            finished = self.client.begin(ONE._replace(binary=True))
            self.assertEqual(finished and finished.replies, (NO_BINARY,))

    def test_a_chunk_that_is_refused_before_its_end_is_cut(self) -> None:
        """The reply is the message's, and the session is over: the rest of the octets would be commands."""
        self.greet()
        self.client.begin(ONE._replace(binary=True))
        self.assertEqual(self.hear(b"250 ok", b"250 ok"), [SendBody(chunk=True)])
        self.assertEqual(self.codes(self.hear(b"552 too much")), [552])
        self.assertFalse(self.client.usable)

    def test_a_chunk_that_is_refused_in_the_same_breath_is_not_begun(self) -> None:
        """What is said next is a command, and not octets of a message that was announced."""
        self.greet()
        self.client.begin(ONE._replace(binary=True))
        self.said()
        wanted, *finished = self.hear(b"250 ok", b"250 ok", b"421 going down")
        self.assertEqual(wanted, SendBody(chunk=True))
        self.assertNotEqual(self.client.phase, "body")
        self.assertEqual(self.codes(finished), [421])
        self.client.quit()
        self.assertEqual(self.said(), [b"QUIT"])

    def test_requiretls_is_kept_by_who_offers_it(self) -> None:
        """Else 5.7.30, unless it is a notification, or the end of the way; an offer in clear is none (RFC 8689 2, 4,
        5)."""
        asked = ONE._replace(wishes=Wishes(requiretls=True))
        offer = EVERYTHING.replace(b"250 MT", b"250-REQUIRETLS\r\n250 MT")
        for encrypted, ehlo, transaction, replies, said in (
            (True, offer, asked, None, b" REQUIRETLS"),
            (False, offer, asked, (NO_REQUIRETLS,), b""),
            (True, EVERYTHING, asked, (NO_REQUIRETLS,), b""),
            (True, EVERYTHING, asked._replace(sender=""), None, b""),
        ):
            self.client = Client("me.example", encrypted=encrypted)
            super().greet(ehlo)
            finished = self.client.begin(transaction)
            self.assertEqual(finished and finished.replies, replies)
            mail = (self.said() or [b""])[0]
            self.assertTrue(mail.endswith(said or b"SIZE=100") or replies, mail)
        self.client = Client("me.example", lmtp=True)
        self.hear(b"220 hello")
        self.said()
        self.client.receive(EHLO)
        self.assertIsNone(self.client.begin(asked))
