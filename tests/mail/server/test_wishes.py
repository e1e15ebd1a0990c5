"""What a client may ask for with MAIL and RCPT, over real connections: what is announced to whom, taken, and kept."""

from __future__ import annotations

import smtplib
import time
from ipaddress import ip_network

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dcrouter.mail.envelope import PLAIN, Terms
from dcrouter.mail.message import Message
from dcrouter.mail.queue.store import START
from dcrouter.mail.server.sessions import MAX_HOLD
from tests.mail.house import House, dialogue, forward, in_thread
from tests.mail.nexthop import Script, ScriptedHop

OURS = (ip_network("127.0.0.0/8"),)
LATER: Script = {"MAIL": "451 4.0.0 later"}
TEXT = "DATA", b"Subject: x\r\n\r\ntext\r\n.\r\n"


def announced(port: int) -> set[str]:
    with smtplib.SMTP("127.0.0.1", port, timeout=240) as client:
        client.ehlo()
        return {keyword.upper() for keyword in client.esmtp_features}


class WishTests(TestCase):
    def queued(self, house: House) -> Deferred[list[Message]]:
        """What the store has, in order of arrival, with what is not due yet."""
        return house.mta._store.due(START, time.time() + 2 * MAX_HOLD, 100).addCallback(
            lambda found: [due.message for due in sorted(found, key=lambda due: due.at[2:])]
        )

    async def test_dsn_is_for_who_may_relay(self) -> None:
        """Strangers are neither told of it nor served, as what becomes of mail is none of their business (RFC 3461
        4, RFC 5321 4.1.1.11); hold and priority are for submission (RFC 4865 2, RFC 6710 3)."""
        for trusted, kind, offered in (
            ((), "smtp", set()),
            (OURS, "smtp", {"DSN"}),
            (OURS, "submission", {"DSN", "FUTURERELEASE", "MT-PRIORITY"}),
        ):
            house = House(self, trusted=trusted, require_tls="never")
            replies = await in_thread(
                dialogue, house.listen(kind), "EHLO c", "MAIL FROM:<a@x.test> RET=FULL", "RSET",
                "MAIL FROM:<a@x.test> MT-PRIORITY=3", "RSET", "MAIL FROM:<a@x.test> HOLDFOR=1", "RSET",
                "MAIL FROM:<a@x.test>", "RCPT TO:<b@local.test> NOTIFY=NEVER",
            )  # fmt: skip
            said = await in_thread(announced, house.listen(kind))
            self.assertEqual(said & {"DSN", "FUTURERELEASE", "MT-PRIORITY", "REQUIRETLS"}, offered)
            for reply, keyword in (
                (replies[2], "DSN"),
                (replies[4], "MT-PRIORITY"),
                (replies[6], "FUTURERELEASE"),
                (replies[9], "DSN"),
            ):
                self.assertEqual(reply[:3], b"250" if keyword in offered else b"555", (kind, trusted, keyword))

    async def test_bad_wishes_begin_nothing(self) -> None:
        """501, and the transaction is as before (RFC 3461 4)."""
        house = House(self, trusted=OURS)
        replies = await in_thread(
            dialogue, house.listen(), "EHLO c", "MAIL FROM:<a@x.test> RET=SOME", "RCPT TO:<b@local.test>",
            "MAIL FROM:<a@x.test> RET=HDRS", "RCPT TO:<b@local.test> NOTIFY=NEVER,DELAY", "DATA",
        )  # fmt: skip
        self.assertEqual(
            [reply[:9] for reply in replies[2:]],
            [b"501 5.5.4", b"503 5.5.1", b"250 2.1.0", b"501 5.5.4", b"554 5.5.1"],
        )

    async def test_what_was_asked_for_is_kept(self) -> None:
        """With each recipient and with the message, in the store; what nobody asked for is not there."""
        hop = ScriptedHop(self, **LATER)
        house = House(self, forward(hop.port, recipients="*"), trusted=OURS, require_tls="never")
        port = house.listen("submission")
        await in_thread(
            dialogue, port, "EHLO c", "MAIL FROM:<a@x.test> RET=FULL ENVID=QQ+2B1 MT-PRIORITY=4",
            "RCPT TO:<b@y.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;alias+2Bx@y.test", "RCPT TO:<c@y.test>", *TEXT,
            "MAIL FROM:<a@x.test>", "RCPT TO:<b@y.test>", *TEXT,
            "MAIL FROM:<a@x.test>", "RCPT TO:<b@y.test>", "DATA", b"TLS-Required:  no\r\n\r\ntext\r\n.\r\n",
        )  # fmt: skip
        await house.idle()
        first, second, plain, optional = await self.queued(house)
        self.assertEqual(first.envelope.terms, Terms(ret="full", envid="QQ+1", priority=4))
        one, other = first.envelope.recipients[0], second.envelope.recipients[0]
        self.assertEqual((one.notify, one.orcpt), ("SUCCESS,DELAY", "rfc822;alias+x@y.test"))
        self.assertEqual((other.notify, other.orcpt), ("", ""))
        self.assertIs(plain.envelope.terms, PLAIN)
        self.assertEqual(optional.envelope.terms, Terms(tls_optional=True))

    async def test_a_message_that_is_to_wait_waits(self) -> None:
        """HOLDFOR: it is queued, due then, and not tried before (RFC 4865 4)."""
        hop = ScriptedHop(self)
        house = House(self, forward(hop.port, recipients="*"), trusted=OURS, require_tls="never")
        before = time.time()
        await in_thread(
            dialogue, house.listen("submission"), "EHLO c", "MAIL FROM:<a@x.test> HOLDFOR=1000",
            "RCPT TO:<b@y.test>", *TEXT,
        )  # fmt: skip
        await house.idle()
        (waits,) = await house.queue()
        self.assertEqual((waits["state"], waits["attempts"], hop.connections), ("deferred", 0, 0))
        self.assertGreaterEqual(waits["due"], round(before + 1000, 3))
        self.assertLessEqual(waits["due"], time.time() + 1000)
