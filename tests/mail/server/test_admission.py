"""Who may send to whom: replies, limits, and the battery of open-relay addresses on every kind of port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.mail import Email
from dcrouter.config.rates import Rate
from dcrouter.config.rules import Deliver, MailForward, Mta, Reject, Rule, RuleLimits, RuleMatch, Verify
from dcrouter.config.targets import Target
from dcrouter.errors import WireError
from dcrouter.mail.envelope import Client
from dcrouter.mail.pipeline.rules import Rules
from dcrouter.mail.server.admission import Admission
from dcrouter.mail.server.admitted import Accepted, Admitted, Course
from dcrouter.wire.smtp.command import Sender, parse_recipient
from dcrouter.wire.smtp.reply import Reply

STRANGER = Client(address="192.0.2.9", kind="smtp")
USER = Client(address="192.0.2.9", kind="submission", account="a@ours.test")
BOX = Deliver(maildir="{recipient}")
OURS = RuleMatch(recipients=("*@ours.test",))


class AdmissionTests(SynchronousTestCase):
    def admission(self, *rules: Rule, **email: Any) -> Admission:
        config = Email(hostname="mail.ours.test", postmaster="root@ours.test", rules=rules, **email)
        self.clock = Clock()
        self.full = False
        self.asked: list[Deferred[Reply]] = []

        def ask(rule: Rule, address: str) -> Deferred[Reply]:
            self.asked.append(Deferred())
            return self.asked[-1]

        return Admission(
            config,
            Rules(config),
            clock=self.clock,
            in_thread=maybeDeferred,
            ask=ask,
            full=lambda size: self.full or size > 100,
        )

    def admit(self, admission: Admission, address: str, taken: dict[str, int] | None = None) -> Admitted:
        course = Course("s@x.test")
        if taken is not None:
            course.taken = taken
        found = admission.recipient(STRANGER, course, address)
        return self.successResultOf(found) if isinstance(found, Deferred) else found

    def test_a_full_queue_takes_no_message(self) -> None:
        """452 4.3.1 at MAIL, until there is room."""
        admission = self.admission(Rule(name="in", match=OURS, action=BOX))
        sender = Sender("s@x.test", None, False)
        self.assertEqual(admission.sender(STRANGER, sender).reply[:9], b"250 2.1.0")
        self.assertEqual(admission.sender(STRANGER, sender._replace(size=100)).reply[:9], b"250 2.1.0")
        self.assertEqual(admission.sender(STRANGER, sender._replace(size=101)).reply[:9], b"452 4.3.1")
        self.full = True
        self.assertEqual(admission.sender(STRANGER, sender).reply[:9], b"452 4.3.1")

    def test_refusals_and_who_refused(self) -> None:
        """The reply is the rule's own; the log is told which rule it was, the client is not."""
        no = Reject(code=550, message="5.1.1 No such user")
        trap = Rule(name="trap", match=RuleMatch(recipients=("trap@ours.test",)), action=no)
        admission = self.admission(trap, Rule(name="in", match=OURS, action=BOX))
        self.assertEqual(
            self.admit(admission, "u@ours.test"), Admitted(b"250 2.1.5 OK\r\n", (Accepted("u@ours.test", "in"),))
        )
        self.assertEqual(
            self.admit(admission, "trap@ours.test"), Admitted(b"550 5.1.1 No such user\r\n", why="rule trap")
        )
        self.assertEqual(
            self.admit(admission, "u@else.test"), Admitted(b"550 5.7.1 Relaying denied\r\n", why="default_action")
        )
        self.assertEqual(admission.status()["refused"], 2)

    def test_messages_in_a_time(self) -> None:
        """Counted by rule, once a message, when its first recipient is taken; more gets 451 4.7.1 without a name."""
        limits = RuleLimits(messages=Rate(rate=(60, 60.0), burst=2))
        admission = self.admission(
            Rule(name="slow", match=OURS, limits=limits, action=BOX),
            Rule(name="fast", match=RuleMatch(recipients=("*@fast.test",)), action=BOX),
        )
        first: dict[str, int] = {}
        for _ in range(5):
            self.assertEqual(self.admit(admission, "u@ours.test", first).rule, "slow")
        self.assertEqual(self.admit(admission, "u@ours.test", {}).rule, "slow")
        third: dict[str, int] = {}
        refused = self.admit(admission, "u@ours.test", third)
        self.assertEqual((refused.reply[:9], refused.rule), (b"451 4.7.1", None))
        self.assertNotIn(b"slow", refused.reply)
        self.assertIn("slow", refused.why)
        self.assertEqual(self.admit(admission, "u@fast.test", third).rule, "fast")
        self.assertEqual(self.admit(admission, "u@ours.test", first).rule, "slow")
        self.clock.advance(1)
        self.assertEqual(self.admit(admission, "u@ours.test", third).rule, "slow")
        self.assertEqual(admission.status()["limited"], 1)

    def test_recipients_of_one_message(self) -> None:
        """The rest gets 452 4.5.3 and comes in the next transaction; other rules take theirs."""
        admission = self.admission(
            Rule(name="few", match=OURS, limits=RuleLimits(max_recipients=2), action=BOX),
            Rule(name="rest", match=RuleMatch(recipients=("*@rest.test",)), action=BOX),
        )
        taken: dict[str, int] = {}
        replies = [self.admit(admission, f"u{at}@ours.test", taken).reply[:9] for at in range(4)]
        self.assertEqual(replies, [b"250 2.1.5", b"250 2.1.5", b"452 4.5.3", b"452 4.5.3"])
        self.assertEqual(self.admit(admission, "u@rest.test", taken).rule, "rest")
        self.assertEqual(self.admit(admission, "u9@ours.test", {}).rule, "few")

    def test_who_is_in_no_file_does_not_exist(self) -> None:
        """550 5.1.1, and no message is counted; 450 4.1.1 where there is no list."""
        path = Path(self.mktemp())
        limits = RuleLimits(messages=Rate(rate=(1, 60.0)))
        rule = Rule(name="in", match=OURS, recipients_file=path, limits=limits, action=BOX)
        self.assertEqual(self.admit(self.admission(rule), "joe@ours.test").reply[:9], b"450 4.1.1")
        path.write_text("joe@ours.test\n")
        admission = self.admission(rule)
        for _ in range(3):
            self.assertEqual(self.admit(admission, "ann@ours.test").reply[:9], b"550 5.1.1")
        self.assertEqual(self.admit(admission, "joe@ours.test").rule, "in")
        self.assertEqual(admission.status()["unknown"], 3)

    def test_who_exists_is_asked(self) -> None:
        """The reply comes with the target's; nobody is asked for those that are refused anyway."""
        forward = MailForward(targets=(Target(host="a.test"),))
        limits = RuleLimits(messages=Rate(rate=(3, 60.0)))
        admission = self.admission(Rule(name="in", match=OURS, verify=Verify(), limits=limits, action=forward))
        for name, code, text, expected in (
            ("joe", 250, "ok", b"250 2.1.5"),
            ("ann", 550, "5.1.1 no", b"550 5.1.1"),
            ("eve", 451, "later", b"450 4.1.1"),
        ):
            found = admission.recipient(STRANGER, Course(""), f"{name}@ours.test")
            assert isinstance(found, Deferred)
            self.assertNoResult(found)
            self.asked[-1].callback(Reply(code=code, lines=(text,)))
            self.assertEqual(self.successResultOf(found).reply[:9], expected)
        self.admit(admission, "u%x@ours.test")
        self.assertEqual([self.admit(admission, "joe@ours.test").rule for _ in range(3)], ["in", "in", None])
        self.admit(admission, "new@ours.test")
        self.assertEqual(len(self.asked), 3)
        self.assertEqual(admission.status()["verified"], 3)


H, D, I = "ours.test", "else.test", "192.0.2.25"  # noqa: E741
ROUTED = (
    f"<u%{D}@[{I}]>",
    f"<u%{D}@{H}>",
    f'<"u@{D}"@{H}>',
    f'<"u%{D}"@{H}>',
    f'<"u@{D}"@[{I}]>',
    f"<{D}!u@{H}>",
    f"<{D}!u@[{I}]>",
    f'<"{D}!u"@{H}>',
    f"<@{H}:u%{D}@{H}>",
    f"<u%{D}%x@{H}>",
)
"""Addresses that a next hop could take for somebody elsewhere."""

FOREIGN = (
    f"<u@{D}>",
    f'<"u"@{D}>',
    f"<@{H}:u@{D}>",
    f"<@{H},@{H}:u@{D}>",
    f"<u@{H}.{D}>",
    f"<u@{D}.{H}.{D}>",
    f"<u@[{I}]>",
    "<u@xn--ours-test>",
    "<u@xn--urs-red.test>",
    f"<u@not{H}>",
)
"""Addresses of others."""

NO_PATHS = (
    f"<@[{I}]:u@{D}>",
    f'<"u@{D}">',
    f'<"u%{D}">',
    f"<u@{D}@[{I}]>",
    f"<u@{D}@{H}>",
    f"<{D}!u>",
    f"<u@{D}.>",
    f"<u@ {D}>",
    f"<<u@{D}>@{H}>",
    f"<u@{H}:25>",
    f"<u@{D}\0>",
    f"<u@{H}\0>",
    "<u@\uff4furs.test>",
    "<u@\u043eurs.test>",
    "<u@ours\u200b.test>",
    "<u@ours\uff0etest>",
    "<u\uff20ours.test>",
    f"<u@{H},u@{D}>",
    "<>",
)
"""What the grammar does not let through."""


class OpenRelayTests(SynchronousTestCase):
    """The pairs of nmap's smtp-open-relay and more, on every kind of port."""

    def setUp(self) -> None:
        config = Email(
            hostname="mail.ours.test",
            postmaster="root@ours.test",
            rules=(
                Rule(name="in", match=OURS, action=MailForward(targets=(Target(host="inside.test"),))),
                Rule(name="literal", match=RuleMatch(recipients=(f"*@[{I}]",), clients="may_relay"), action=BOX),
                Rule(name="out", match=RuleMatch(clients="may_relay"), action=Mta()),
            ),
        )

        def ask(rule: Rule, address: str) -> Deferred[Reply]:
            raise AssertionError("nobody is asked")

        self.admission = Admission(
            config, Rules(config), clock=Clock(), in_thread=maybeDeferred, ask=ask, full=lambda size: False
        )

    def reply(self, client: Client, sender: str, path: str) -> bytes:
        try:
            address, _ = parse_recipient(f"TO:{path}")
        except WireError as error:
            return error.reply or b""
        admitted = self.admission.recipient(client, Course(sender), address)
        assert isinstance(admitted, Admitted)
        self.assertEqual(admitted.rule is None, admitted.reply.startswith(b"5"))
        return admitted.reply

    def test_the_battery(self) -> None:
        """A stranger reaches nobody but ours; a user reaches others, and no address that leads on from there."""
        for kind in ("smtp", "submission", "smtps"):
            for sender in ("", f"u@{D}", f"u@{H}", f"u@[{I}]"):
                for account, trusted in ((None, False), ("a@ours.test", False), (None, True)):
                    client = Client(address="192.0.2.9", kind=kind, account=account, trusted=trusted)
                    at = (kind, sender, account, trusted)
                    for path in ROUTED:
                        self.assertEqual(self.reply(client, sender, path)[:4], b"550 ", (path, at))
                    for path in FOREIGN:
                        expected = b"250 " if client.may_relay else b"550 "
                        self.assertEqual(self.reply(client, sender, path)[:4], expected, (path, at))
                    for path in NO_PATHS:
                        self.assertIn(self.reply(client, sender, path)[:4], (b"501 ", b"553 "), (path, at))
                    for path in (f"<u@{H}>", f"<U@{H.upper()}>", f"<@{D}:u@{H}>", "<postmaster>"):
                        self.assertEqual(self.reply(client, sender, path)[:4], b"250 ", (path, at))
