"""Who is told of what, by which rule, and with how much of the message."""

from __future__ import annotations

import itertools
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.mail import Email
from dcrouter.config.queue import Bounces, Queue, Retry
from dcrouter.config.rules import Deliver, Mta, Reject, Rule, RuleMatch
from dcrouter.mail.delivery.bounce import HEADER, WHOLE, Notifications, remote_name
from dcrouter.mail.delivery.outcome import Deferred, Delivered, Failed, Outcome
from dcrouter.mail.envelope import Envelope, Recipient, Terms
from dcrouter.mail.message import Message
from dcrouter.mail.pipeline.rules import Rules
from dcrouter.mail.queue.notices import Ended
from dcrouter.wire.dsn.notice import Action
from tests.mail.notices import groups

TRAP = Rule(name="trap", match=RuleMatch(recipients=("trap@local.test",)), action=Reject())
LOCAL = Rule(name="local", match=RuleMatch(recipients=("*@local.test",)), action=Deliver(maildir="m"))
OUT = Rule(name="out", match=RuleMatch(clients="may_relay"), action=Mta())
SUBMITTED = Rule(name="out", match=RuleMatch(clients="may_relay", kinds=("submission",)), action=Mta())

NOW = 1_780_000_000.0
CONTENT = b"Message-ID: <1@x.test>\r\nSubject: Hi\r\n\r\nthe body\r\n"


def asking(sender: str = "joe@local.test", **terms: Any) -> Message:
    made = message(sender)
    return evolve(made, envelope=evolve(made.envelope, terms=Terms(**terms)))


def notifications(*rules: Rule, **email: Any) -> Notifications:
    email.setdefault("postmaster", "root@local.test")
    written = Email(hostname="mail.local.test", rules=rules or (TRAP, LOCAL, OUT), **email)
    return Notifications(written, Rules(written), itertools.count(0x500).__next__, lambda: NOW)


def message(sender: str = "joe@local.test", *, may_relay: bool = True) -> Message:
    recipient = Recipient(number=0, address="b@far.test", rule="out")
    envelope = Envelope(session="s1", sender=sender, recipients=(recipient,), may_relay=may_relay)
    return Message(id=0x4FF, envelope=envelope, received=NOW - 60, size=len(CONTENT), eightbit=False)


FAILURE = Failed("550 5.1.1 no", "mx.far.test:25")


def ended(
    outcome: Outcome = FAILURE, action: Action = "failed", *, address: str = "b@far.test", orcpt: str = ""
) -> Ended:
    return Ended(Recipient(number=0, rule="out", address=address, orcpt=orcpt), outcome, action)


def told(by: Notifications, of: Message, *ends: Ended, head: bytes = CONTENT) -> tuple[Message, bytes]:
    """The notification, and its octets."""
    made = by.told(of, ends, head)
    assert made is not None and made.octets is not None
    return made, made.octets


class NotificationsTests(SynchronousTestCase):
    def test_who_may_relay_is_told(self) -> None:
        """A message from the null sender to the sender, by the rule that takes it, with its octets in memory."""
        made, octets = told(notifications(), message(), ended())
        self.assertEqual((made.id, made.name, made.received, made.notice), (0x500, "500", NOW, "sender"))
        self.assertEqual(
            made.envelope,
            Envelope(
                session="s1", sender="", recipients=(Recipient(number=0, address="joe@local.test", rule="local"),)
            ),
        )
        self.assertEqual((made.size, made.eightbit, made.spooled), (len(octets), False, False))
        self.assertIn(b"To: <joe@local.test>\r\n", octets)
        self.assertIn(b"Remote-MTA: dns; mx.far.test\r\n", octets)
        self.assertIn(b"X-Dcrouter-Message: 4ff\r\n", octets)
        self.assertNotIn(b"the body", octets)

    def test_a_sender_elsewhere_is_told_by_the_rule_for_those_who_may_relay(self) -> None:
        """Even where that rule is only for another kind of port."""
        for rule in (OUT, SUBMITTED):
            made, _ = told(notifications(LOCAL, rule), message("joe@else.test"), ended())
            self.assertEqual(made.envelope.recipients[0], Recipient(number=0, address="joe@else.test", rule="out"))

    def test_strangers_are_not_told_but_the_postmaster(self) -> None:
        """With the reason in words, of failures only; without a postmaster, nobody."""
        made, octets = told(notifications(), message("x@else.test", may_relay=False), ended())
        self.assertEqual(made.envelope.recipients[0].address, "root@local.test")
        self.assertEqual(made.notice, "postmaster")
        self.assertIn(b"came from a stranger", octets)
        self.assertIn(b"To: <root@local.test>", octets)
        self.assertIsNone(notifications().told(message(may_relay=False), [ended(action="delayed")], CONTENT))
        self.assertIsNone(notifications(postmaster=None).told(message(may_relay=False), [ended()], CONTENT))

    def test_a_stranger_for_whom_spf_or_dkim_stands_is_told(self) -> None:
        """Of failures and of delays, as who may relay."""
        stranger = message("x@else.test", may_relay=False)
        known = evolve(stranger, envelope=evolve(stranger.envelope, vouched=True))
        for made, _ in (
            told(notifications(), known, ended()),
            told(notifications(), known, ended(Deferred("450 4.2.0 later"), "delayed")),
        ):
            self.assertEqual((made.envelope.recipients[0].address, made.notice), ("x@else.test", "sender"))

    def test_a_sender_whom_no_rule_takes_is_told_of_to_the_postmaster(self) -> None:
        """No rule, or one that refuses; where the postmaster is refused too, nobody is told."""
        for sender in ("joe@else.test", "trap@local.test"):
            made, octets = told(notifications(TRAP, LOCAL), message(sender), ended())
            self.assertEqual(made.envelope.recipients[0].address, "root@local.test")
            self.assertEqual(made.notice, "postmaster")
            self.assertIn(b"no rule here accepts mail", octets)
        self.assertIsNone(notifications(TRAP).told(message(), [ended()], CONTENT))

    def test_never_for_the_null_sender_or_where_nobody_wants_it(self) -> None:
        """No notification of a notification; bounces.dsn false: none at all; nothing ended: none."""
        self.assertIsNone(notifications().told(message(""), [ended()], CONTENT))
        self.assertIsNone(notifications().told(message("", may_relay=False), [ended()], CONTENT))
        self.assertIsNone(notifications(bounces=Bounces(dsn=False)).told(message(), [ended()], CONTENT))
        self.assertIsNone(notifications().told(message(), [], CONTENT))

    def test_a_delay_tells_until_when(self) -> None:
        """From the message's arrival and queue.retry.max_age."""
        wait = Queue(retry=Retry(max_age=86_460.0))
        later = ended(Deferred("451 4.2.1 later", "mx:25"), "delayed")
        _, group = groups(told(notifications(queue=wait), message(), later)[1])
        self.assertEqual(group["Action"], "delayed")
        self.assertEqual(group["Status"], "4.2.1")
        self.assertEqual(group["Will-Retry-Until"], "Fri, 29 May 2026 20:26:40 +0000")

    def test_the_whole_message_goes_back_where_it_is_wanted_and_there(self) -> None:
        """return: full, and all octets; of a larger message only its header."""
        full = notifications(bounces=Bounces(return_="full"))
        self.assertEqual((full.octets(message()), notifications().octets(message())), (WHOLE, HEADER))
        self.assertIn(b"the body", told(full, message(), ended())[1])
        large = evolve(message(), size=WHOLE + 1)
        self.assertNotIn(b"the body", told(full, large, ended())[1])
        eight, _ = told(full, evolve(message(), size=len(CONTENT) + 1), ended(), head=CONTENT + b"\xff")
        self.assertTrue(eight.eightbit)

    def test_the_sender_says_how_much_comes_back(self) -> None:
        """RET before email.bounces.return; all of it only with a failure (RFC 3461 4.3)."""
        full, headers = notifications(bounces=Bounces(return_="full")), notifications()
        for ret, whole in (("full", True), ("headers", False)):
            for by in (full, headers):
                _, octets = told(by, asking(ret=ret), ended())
                self.assertEqual(b"the body" in octets, whole)
                self.assertEqual(by.octets(asking(ret=ret)), WHOLE if whole else HEADER)
        for action in ("delayed", "delivered", "relayed"):
            _, octets = told(full, asking(ret="full"), ended(Delivered("250 ok", "mx:25"), action))
            self.assertNotIn(b"the body", octets)
        self.assertIn(b"the body", told(full, asking(), ended(), ended(action="delayed"))[1])

    def test_what_the_sender_called_things_comes_back(self) -> None:
        """ENVID of the message, ORCPT of a recipient (RFC 3464 2.2.1, 2.3.1)."""
        _, octets = told(notifications(), asking(envid="QQ 314"), ended(orcpt="rfc822;alias@far.test"))
        self.assertIn(b"Original-Envelope-Id: QQ 314\r\n", octets)
        self.assertIn(b"Original-Recipient: rfc822; alias@far.test\r\n", octets)

    def test_success_is_for_the_sender_alone(self) -> None:
        """The postmaster hears of failures in its place, of delays where the sender is known, of success never."""
        delivered = ended(Delivered("250 ok", "mx:25"), "relayed")
        _, octets = told(notifications(), message(), delivered)
        self.assertIn(b"Action: relayed\r\n", octets)
        nobody = notifications(LOCAL)
        self.assertIsNone(nobody.told(message("joe@else.test"), [delivered], CONTENT))
        made, octets = told(nobody, message("joe@else.test"), delivered, ended(), ended(action="delayed"))
        self.assertEqual((made.notice, octets.count(b"\r\nAction: ")), ("postmaster", 2))
        made, octets = told(notifications(), message(may_relay=False), ended(), ended(action="delayed"))
        self.assertEqual((made.notice, octets.count(b"\r\nAction: ")), ("postmaster", 1))

    def test_a_message_that_requires_tls_shows_nothing_of_itself(self) -> None:
        """Only its name, whatever RET says, and the notification requires TLS too (RFC 8689 5)."""
        made, octets = told(notifications(), asking(ret="full", requiretls=True), ended())
        self.assertEqual(made.envelope.terms, Terms(requiretls=True))
        self.assertIn(b"Message-ID: <1@x.test>\r\n", octets)
        self.assertNotIn(b"Subject: Hi", octets)
        self.assertNotIn(b"the body", octets)

    def test_utf8_is_used_where_it_is_needed_and_taken(self) -> None:
        """Where the message itself was SMTPUTF8 and not all of it is ASCII after all; then the notification says so."""
        sender, head = "j\u00f6rg@local.test", "Subject: \u00fc\r\n\r\n".encode()
        for (made, octets), needed in (
            (told(notifications(), asking(sender, smtputf8=True), ended()), True),
            (told(notifications(), asking(smtputf8=True), ended(), head=head), True),
            (told(notifications(), asking(smtputf8=True), ended(address="\u00fc@far.test")), True),
            (told(notifications(), asking(smtputf8=True), ended()), False),
            (told(notifications(), asking(), ended(), head=head), False),
        ):
            self.assertEqual(made.envelope.terms.smtputf8, needed)
            self.assertEqual(b"message/global-delivery-status" in octets, needed)
            self.assertEqual(made.eightbit, needed)

    def test_only_servers_have_said_what_they_have_said(self) -> None:
        """A refused connection and our own verdicts name no remote server; one behind a unix socket is localhost."""
        cases = (
            (Failed("550 5.1.1 no", "[2001:db8::1]:25"), b"[IPv6:2001:db8::1]"),
            (Failed("550 5.1.1 no", "192.0.2.1:25"), b"[192.0.2.1]"),
            (Failed("550 5.1.1 no", "/run/lmtp.sock"), b"localhost"),
            (Deferred("4.4.1 mx.far.test:25: refused", "mx.far.test:25"), None),
            (Deferred("4.3.0 No space left on device", "/var/mail"), None),
            (Failed("550 5.1.2 There is no domain far.test"), None),
        )
        for outcome, remote in cases:
            _, octets = told(notifications(), message(), ended(outcome))
            if remote is None:
                self.assertNotIn(b"Remote-MTA", octets, outcome)
                self.assertIn(b"Diagnostic-Code: X-Dcrouter; ", octets)
            else:
                self.assertIn(b"Remote-MTA: dns; " + remote + b"\r\n", octets)
                self.assertIn(b"Diagnostic-Code: smtp; 550", octets)

    def test_names_of_remote_servers(self) -> None:
        """Of the labels that outcomes have."""
        for target, name in (("mx.far.test:25", "mx.far.test"), ("", ""), ("/a/b", ""), ("a.b", "a.b")):
            self.assertEqual(remote_name(target), name)
