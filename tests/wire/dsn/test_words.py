"""What a person reads: who, what was said, what to do."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.dsn.notice import Told
from dcrouter.wire.dsn.words import span, words
from tests.wire.dsn.test_report import NOTICE


def text(**changes: Any) -> str:
    """The words on one line."""
    return " ".join(" ".join(words(evolve(NOTICE, **changes))).split())


class WordsTests(SynchronousTestCase):
    def test_a_failure_tells_what_to_do(self) -> None:
        """By the kind of the failure; where nobody said anything, our own words stand alone."""
        for reply, advice in (
            ("550 5.1.1 no", "Check the address"),
            ("552 5.2.2 full", "mailbox is full"),
            ("552 5.3.4 big", "too large"),
            ("550 5.7.1 spam", "matter of policy"),
            ("556 5.1.10 null MX", "takes no mail"),
        ):
            told = Told(address="b@y.test", reply=reply, remote="mx.y.test")
            said = text(recipients=(told,))
            self.assertIn(f"The server mx.y.test said: {reply}", said)
            self.assertIn(advice, said)
        said = text(recipients=(Told(address="b@y.test", reply="550 5.1.2 There is no domain y.test"),))
        self.assertNotIn("said", said)
        self.assertIn("There is no domain y.test", said)

    def test_giving_up_tells_after_how_long(self) -> None:
        """A temporary reply that became a failure."""
        told = Told(address="b@y.test", reply="4.4.1 timeout")
        said = text(recipients=(told,), received=NOTICE.now - 5 * 86400)
        self.assertIn("Given up after 5 days. The last problem: 4.4.1 timeout", said)

    def test_a_delay_asks_for_nothing(self) -> None:
        """It says until when the message is tried, and that it need not be sent again."""
        told = evolve(NOTICE.recipients[0], action="delayed")
        said = text(recipients=(told,), received=NOTICE.now - 4 * 3600, until=NOTICE.now + 86400)
        self.assertIn("WARNING ONLY", said)
        self.assertIn("for 4 hours. It will be tried until Fri, 29 May 2026 20:26:40 +0000.", said)
        self.assertNotIn("What to do", said)

    def test_success_is_told_as_far_as_it_is_known(self) -> None:
        """Delivered, or passed on to who does not report; in a mixture each recipient has its own words."""
        failed = NOTICE.recipients[0]
        delivered, relayed = evolve(failed, action="delivered"), evolve(failed, action="relayed")
        self.assertIn("has been delivered to one recipient, and you asked", text(recipients=(delivered,)))
        self.assertIn("to 2 recipients has been passed on", text(recipients=(relayed, relayed)))
        said = text(recipients=(failed, delivered, relayed, evolve(failed, action="delayed")))
        self.assertIn("This is what became of your message to 4 recipients.", said)
        for end in ("<b@y.test> Not delivered", "<b@y.test> Delivered.", "<b@y.test> Passed on", "Not yet delivered"):
            self.assertIn(end, said)
        self.assertEqual(said.count("What to do"), 1)

    def test_the_postmaster_hears_why_it_is_he(self) -> None:
        """A stranger, or a sender whom no rule takes; no advice for senders."""
        said = text(instead="stranger", to="root@x.test", sender="evil\r\n@x.test")
        self.assertIn("You get this as its postmaster: the message came from a stranger", said)
        self.assertIn("<evil @x.test>", said)
        self.assertNotIn("What to do", said)
        self.assertIn("no rule here accepts mail for that address", text(instead="no_rule"))

    def test_times_are_told_in_one_unit(self) -> None:
        """The largest of which there are two."""
        cases = {0: "a moment", 59: "a minute", 60: "1 minute", 4000: "1 hour", 7199: "119 minutes", 14400: "4 hours"}
        cases |= {86400: "1 day", 100_000: "1 day", 150_000: "41 hours", 432_000: "5 days"}
        self.assertEqual({seconds: span(seconds) for seconds in cases}, cases)
