"""Mail that cannot be delivered, from the client's 250 to the notice in the sender's Maildir, in one mail half."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from typing import Any

from twisted.logger import formatEvent
from twisted.trial.unittest import TestCase

from dcrouter.config.queue import Bounces, Queue, Retry
from dcrouter.config.rules import Mta, Rule, RuleMatch
from tests.mail.house import LOCAL, House, in_thread, send
from tests.mail.nexthop import ScriptedHop
from tests.mail.notices import groups
from tests.support.facts import until
from tests.support.logged import logged
from tests.support.nameserver import Nameserver

OUT = Rule(name="out", match=RuleMatch(recipients=("*@far.test", "*@null.test", "*@nowhere.test")), action=Mta())
LOOPBACK = (IPv4Network("127.0.0.0/8"),)
BODY = "Message-ID: <1@local.test>\r\nSubject: Hello\r\n\r\nthe body\r\n"


class BounceTests(TestCase):
    def setUp(self) -> None:
        self.dns = Nameserver(self)

    def house(self, hop: ScriptedHop, *, trusted: tuple[IPv4Network, ...] = LOOPBACK, **email: Any) -> House:
        self.dns.mail("far.test", "mx.far.test")
        self.dns.add("null.test", "MX", "0 .")
        return House(self, LOCAL, OUT, resolver=self.dns.config(), mx_port=hop.port, trusted=trusted, **email)

    async def sent(self, house: House, *recipients: str, sender: str = "joe@local.test") -> None:
        await in_thread(send, house.listen(), *recipients, sender=sender, body=BODY)

    async def notice(self, house: House, whom: str) -> bytes:
        """The only mail of a Maildir, when it is there and the queue is empty."""
        await until(lambda: house.mails(whom))
        await until(lambda: house.mta.status()["queued"] == 0)
        (mail,) = house.mails(whom)
        return mail

    async def test_a_refused_message_comes_back_to_its_sender(self) -> None:
        """The exchanger says 550: the sender finds who said it and why, and the header; nothing stays in the queue."""
        hop = ScriptedHop(self, RCPT="550 5.1.1 no such user")
        house = self.house(hop)
        await self.sent(house, "b@far.test")
        mail = await self.notice(house, "joe@local.test")
        group = groups(mail)[1]
        self.assertEqual(group["Final-Recipient"], "rfc822; b@far.test")
        self.assertEqual((group["Action"], group["Status"]), ("failed", "5.1.1"))
        self.assertEqual(group["Remote-MTA"], "dns; mx.far.test")
        self.assertEqual(group["Diagnostic-Code"], "smtp; 550 5.1.1 no such user")
        self.assertIn(b"Return-Path: <>", mail)
        self.assertIn(b"In-Reply-To: <1@local.test>", mail)
        self.assertIn(b"Subject: Hello", mail)
        self.assertNotIn(b"the body", mail)

    async def test_the_log_leads_from_a_message_to_its_notice(self) -> None:
        """One line names both: a notice comes of no client, so nothing else says where it is from."""
        events = logged(self)
        house = self.house(ScriptedHop(self, RCPT="550 5.1.1 no such user"))
        await self.sent(house, "b@far.test")
        mail = await self.notice(house, "joe@local.test")
        (line,) = [said for said in map(formatEvent, events) if "is told by" in said]
        found = re.search(r": joe@local\.test is told by message (\w+)$", line)
        assert found is not None, line
        self.assertIn(f"Message-ID: <{found[1]}@".encode(), mail)

    async def test_null_mx_and_missing_domains_come_back_at_once(self) -> None:
        """One notice for both, with what DNS said; the whole message where that is wanted."""
        hop = ScriptedHop(self)
        house = self.house(hop, bounces=Bounces(return_="full"))
        await self.sent(house, "b@null.test", "c@nowhere.test")
        mail = await self.notice(house, "joe@local.test")
        statuses = {group["Final-Recipient"]: group["Status"] for group in groups(mail)[1:]}
        self.assertEqual(statuses, {"rfc822; b@null.test": "5.1.10", "rfc822; c@nowhere.test": "5.1.2"})
        self.assertIn(b"the body", mail)
        self.assertEqual(hop.connections, 0)

    async def test_a_stranger_is_not_told(self) -> None:
        """A forged sender would get the notice: the postmaster has it instead."""
        house = self.house(ScriptedHop(self, RCPT="550 5.1.1 no such user"), trusted=())
        await self.sent(house, "b@far.test", sender="joe@local.test")
        mail = await self.notice(house, "root@local.test")
        self.assertIn(b"came from a stranger", mail)
        self.assertEqual(house.mails("joe@local.test"), [])

    async def test_a_notice_that_is_refused_goes_no_further(self) -> None:
        """The sender's exchanger refuses everything: no notice of the notice, to nobody."""
        hop = ScriptedHop(self, RCPT="550 5.1.1 no such user")
        house = self.house(hop)
        await self.sent(house, "b@far.test", sender="joe@far.test")
        await until(lambda: sum("RCPT" in line for line in hop.commands) == 2)
        await until(lambda: house.mta.status()["failed"] == 2)
        await house.idle()
        (row,) = await house.queue()
        self.assertEqual((row["state"], row["sender"], row["recipient"]), ("failed", "", "joe@far.test"))
        self.assertEqual(house.mails("root@local.test"), [])

    async def test_a_message_for_nobody_without_sender_is_told_to_nobody(self) -> None:
        """A null sender: the failure stays for the operator."""
        house = self.house(ScriptedHop(self, RCPT="550 5.1.1 no such user"))
        await self.sent(house, "b@far.test", sender="")
        await until(lambda: house.mta.status()["failed"] == 1)
        await house.idle()
        (row,) = await house.queue()
        self.assertEqual(row["state"], "failed")

    async def test_a_delay_is_told_once_and_giving_up_at_the_end(self) -> None:
        """The exchanger says 450 all the time: a warning, then the failure."""
        house = self.house(
            ScriptedHop(self, RCPT="450 4.2.1 later"),
            queue=Queue(retry=Retry(base=0.2, max=0.2, jitter=0.0, delay_notice=0.3, max_age=2.0)),
        )
        await self.sent(house, "b@far.test")
        await until(lambda: len(house.mails("joe@local.test")) >= 2)
        await until(lambda: house.mta.status()["queued"] == 0)
        notices = [groups(mail)[1] for mail in house.mails("joe@local.test")]
        self.assertEqual(sorted(notice["Action"] for notice in notices), ["delayed", "failed"])
        self.assertEqual({notice["Status"] for notice in notices}, {"4.2.1"})
