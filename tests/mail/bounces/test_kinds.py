"""What replies of real servers mean."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.mail.bounces.kinds import kind_of, names

HARD = {
    "bad-mailbox": (
        "550 5.1.1 <bob@junkyard.test>: Recipient address rejected: User unknown in virtual mailbox table",
        "550-5.1.1 The email account that you tried to reach does not exist. Please try double-checking",
        "550 Requested action not taken: mailbox unavailable, no such user here",
        "550 No such recipient",
        "553 sorry, that domain isn't in my list; unknown user",
        "554 delivery error: This user doesn't have a yahoo.com account (x@yahoo.test) [0]",
        "550 5.1.0 Address rejected",
    ),
    "bad-domain": ("550 5.1.2 There is no domain x.test", "556 5.1.10 x.test takes no mail (null MX)"),
    "inactive-mailbox": (
        "550 5.2.1 The email account that you tried to reach is disabled",
        "554 This account has been suspended",
    ),
    "moved": ("551 5.1.6 Recipient has moved",),
}
SOFT = {
    "quota": ("552 5.2.2 Mailbox full", "452 4.2.2 The email account is over quota", "550 mailbox is full"),
    "spam": ("554 5.7.1 Message rejected as spam", "550 5.7.1 Our system has detected unsolicited mail"),
    "listed": (
        "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
        "550 5.7.1 Your IP address 192.0.2.1 has been blocked",
        "554 Poor reputation of the sender",
    ),
    "rate": ("421 4.7.0 Too many connections, slow down", "450 4.2.1 The user is receiving mail at a rate that"),
    "greylisted": ("451 4.7.1 Greylisted, come back later",),
    "authentication": ("550 5.7.26 This mail is unauthenticated", "550 SPF check failed for x.test"),
    "policy": ("550 5.7.1 Not allowed here", "554 Transaction refused by policy"),
    "too-large": ("552 5.3.4 Message too big", "552 message exceeds fixed limit"),
    "tls": ("530 5.7.10 Encryption needed", "4.7.5 mx.x.test:25: DANE: no TLSA record is of its certificate (in tls)"),
    "content": ("554 5.6.0 Bad header", "554 5.6.7 Non-ASCII address not permitted"),
    "virus": ("550 5.7.1 Virus found in message",),
    "relaying": ("554 5.7.0 x: Relay access denied",),
    "dns": ("4.4.3 DNS: the MX of x.test has no answer",),
    "unreachable": ("4.4.1 mx.x.test:25: Connection refused", "4.4.2 mx:25: connection lost"),
    "loop": ("554 5.4.6 Too many hops",),
    "system": ("452 4.3.1 Insufficient system resources",),
    "protocol": ("501 5.5.4 Syntax error in parameters",),
    "unavailable": ("450 try later",),
    "other": ("550 x", "what"),
}


class KindTests(SynchronousTestCase):
    def test_replies_of_servers(self) -> None:
        """Each by its kind; those for which the address is not worth another message are hard, no other is."""
        for hard, known in ((True, HARD), (False, SOFT)):
            for kind, replies in known.items():
                for reply in replies:
                    self.assertEqual(kind_of(reply), (kind, hard), reply)

    def test_every_kind_is_tried_here(self) -> None:
        """So that a rule which nothing meets is found; `mailbox` is what is left of 5.2.x."""
        self.assertEqual(set(names()) - {"mailbox"}, {*HARD, *SOFT})

    @given(st.text(max_size=200))
    def test_anything_has_a_kind(self, text: str) -> None:
        """Whatever it says; what is no permanent reply is never hard."""
        for reply in (text, f"550 {text}", f"450 4.1.1 {text}"):
            kind = kind_of(reply)
            self.assertIn(kind.name, names())
            self.assertFalse(kind.hard and not reply.startswith("5"))
