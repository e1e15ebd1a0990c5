"""Mail that cannot be delivered, from the client's 250 to the notice in the sender's Maildir, in one mail half."""

from __future__ import annotations

import email
import re
from email.message import Message
from ipaddress import ip_network

from twisted.internet.defer import inlineCallbacks
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from dcrouter.config.queue import Bounces, Queue, Retry
from dcrouter.config.rules import Mta, Rule, RuleMatch
from tests.mail.house import LOCAL, House, in_thread, send
from tests.mail.nexthop import ScriptedHop
from tests.support.facts import until
from tests.support.nameserver import Nameserver

OUT = Rule(name="out", match=RuleMatch(recipients=("*@far.test", "*@null.test", "*@nowhere.test")), action=Mta())
LOOPBACK = (ip_network("127.0.0.0/8"),)
BODY = "Message-ID: <1@local.test>\r\nSubject: Hello\r\n\r\nthe body\r\n"


def fields(notice: bytes, group: int = 1) -> Message:
    """The fields of a recipient in a notification."""
    message = email.message_from_bytes(notice)
    assert message.get_content_type() == "multipart/report", message
    return message.get_payload(1).get_payload(group)  # type: ignore[union-attr,return-value]


class BounceTests(TestCase):
    def setUp(self):
        self.dns = Nameserver(self)

    def house(self, hop, *, trusted=LOOPBACK, **email):
        self.dns.mail("far.test", "mx.far.test")
        self.dns.add("null.test", "MX", "0 .")
        return House(self, LOCAL, OUT, resolver=self.dns.config(), mx_port=hop.port, trusted=trusted, **email)

    @inlineCallbacks
    def sent(self, house, *recipients, sender="joe@local.test"):
        yield in_thread(send, house.listen(), *recipients, sender=sender, body=BODY)

    @inlineCallbacks
    def notice(self, house, whom):
        """The only mail of a Maildir, when it is there and the queue is empty."""
        yield until(lambda: house.mails(whom))
        yield until(lambda: house.mta.status()["queued"] == 0)
        (mail,) = house.mails(whom)
        return mail

    @inlineCallbacks
    def test_a_refused_message_comes_back_to_its_sender(self):
        """The exchanger says 550: the sender finds who said it and why, and the header; nothing stays in the queue."""
        hop = ScriptedHop(self, RCPT="550 5.1.1 no such user")
        house = self.house(hop)
        yield self.sent(house, "b@far.test")
        mail = yield self.notice(house, "joe@local.test")
        group = fields(mail)
        self.assertEqual(group["Final-Recipient"], "rfc822; b@far.test")
        self.assertEqual((group["Action"], group["Status"]), ("failed", "5.1.1"))
        self.assertEqual(group["Remote-MTA"], "dns; mx.far.test")
        self.assertEqual(group["Diagnostic-Code"], "smtp; 550 5.1.1 no such user")
        self.assertIn(b"Return-Path: <>", mail)
        self.assertIn(b"In-Reply-To: <1@local.test>", mail)
        self.assertIn(b"Subject: Hello", mail)
        self.assertNotIn(b"the body", mail)

    @inlineCallbacks
    def test_the_log_leads_from_a_message_to_its_notice(self):
        """One line names both: a notice comes of no client, so nothing else says where it is from."""
        said: list[str] = []

        def hear(event: LogEvent) -> None:
            said.append(formatEvent(event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        house = self.house(ScriptedHop(self, RCPT="550 5.1.1 no such user"))
        yield self.sent(house, "b@far.test")
        mail = yield self.notice(house, "joe@local.test")
        (line,) = [one for one in said if "is told by" in one]
        found = re.search(r": joe@local\.test is told by message (\w+)$", line)
        assert found is not None, line
        self.assertIn(f"Message-ID: <{found[1]}@".encode(), mail)

    @inlineCallbacks
    def test_null_mx_and_missing_domains_come_back_at_once(self):
        """One notice for both, with what DNS said; the whole message where that is wanted."""
        hop = ScriptedHop(self)
        house = self.house(hop, bounces=Bounces(return_="full"))
        yield self.sent(house, "b@null.test", "c@nowhere.test")
        mail = yield self.notice(house, "joe@local.test")
        statuses = {fields(mail, at)["Final-Recipient"]: fields(mail, at)["Status"] for at in (1, 2)}
        self.assertEqual(statuses, {"rfc822; b@null.test": "5.1.10", "rfc822; c@nowhere.test": "5.1.2"})
        self.assertIn(b"the body", mail)
        self.assertEqual(hop.connections, 0)

    @inlineCallbacks
    def test_a_stranger_is_not_told(self):
        """A forged sender would get the notice: the postmaster has it instead."""
        house = self.house(ScriptedHop(self, RCPT="550 5.1.1 no such user"), trusted=())
        yield self.sent(house, "b@far.test", sender="joe@local.test")
        mail = yield self.notice(house, "root@local.test")
        self.assertIn(b"came from a stranger", mail)
        self.assertEqual(house.mails("joe@local.test"), [])

    @inlineCallbacks
    def test_a_notice_that_is_refused_goes_no_further(self):
        """The sender's exchanger refuses everything: no notice of the notice, to nobody."""
        hop = ScriptedHop(self, RCPT="550 5.1.1 no such user")
        house = self.house(hop)
        yield self.sent(house, "b@far.test", sender="joe@far.test")
        yield until(lambda: sum("RCPT" in line for line in hop.commands) == 2)
        yield until(lambda: house.mta.status()["failed"] == 2)
        yield house.idle()
        (row,) = yield house.queue()
        self.assertEqual((row["state"], row["sender"], row["recipient"]), ("failed", "", "joe@far.test"))
        self.assertEqual(house.mails("root@local.test"), [])

    @inlineCallbacks
    def test_a_message_for_nobody_without_sender_is_told_to_nobody(self):
        """A null sender: the failure stays for the operator."""
        house = self.house(ScriptedHop(self, RCPT="550 5.1.1 no such user"))
        yield self.sent(house, "b@far.test", sender="")
        yield until(lambda: house.mta.status()["failed"] == 1)
        yield house.idle()
        (row,) = yield house.queue()
        self.assertEqual(row["state"], "failed")

    @inlineCallbacks
    def test_a_delay_is_told_once_and_giving_up_at_the_end(self):
        """The exchanger says 450 all the time: a warning, then the failure."""
        house = self.house(
            ScriptedHop(self, RCPT="450 4.2.1 later"),
            queue=Queue(retry=Retry(base=0.2, max=0.2, jitter=0.0, delay_notice=0.3, max_age=2.0)),
        )
        yield self.sent(house, "b@far.test")
        yield until(lambda: len(house.mails("joe@local.test")) >= 2)
        yield until(lambda: house.mta.status()["queued"] == 0)
        notices = [fields(mail) for mail in house.mails("joe@local.test")]
        self.assertEqual(sorted(notice["Action"] for notice in notices), ["delayed", "failed"])
        self.assertEqual({notice["Status"] for notice in notices}, {"4.2.1"})
