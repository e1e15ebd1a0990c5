"""Aliases, end to end: whom an address stands for, what rules make of it, and nobody is relayed for by accident."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from dcrouter.config.rules import Deliver, Reject, Rule, RuleLimits, RuleMatch
from tests.mail.house import LOCAL, House, dialogue, in_thread
from tests.mail.notices import groups
from tests.support.facts import until

BOX = Deliver(maildir="maildir/{recipient}")
ABROAD = Rule(name="abroad", match=RuleMatch(clients="may_relay"), action=Deliver(maildir="abroad/{recipient}"))
STAFF = Rule(
    name="staff",
    match=RuleMatch(recipients=("staff@local.test",), clients="strangers"),
    action=Reject(message="5.7.1 For the staff only"),
)
BIG = Rule(
    name="big",
    match=RuleMatch(recipients=("boss@local.test", "all@local.test"), size_over=1000),
    action=Reject(code=552, message="5.3.4 Too big"),
)
TRUSTED = (ip_network("127.0.0.0/8"),)
OK, ALONE = b"250 2.1.5", b"452 4.5.3"
SMALL = b"Subject: x\r\n\r\ntext\r\n"
LARGE = SMALL + b"text text text\r\n" * 100


class AliasTests(TestCase):
    def house(self, text: str, *rules: Rule, **more: Any) -> House:
        self.path = Path(self.mktemp()).absolute()
        self.path.write_text(text)
        return House(self, *(rules or (STAFF, LOCAL, ABROAD)), aliases_file=self.path, **more)

    def known(self, *names: str) -> Path:
        """A list of who exists."""
        path = Path(self.mktemp()).absolute()
        path.write_text("".join(f"{name}@local.test\n" for name in names))
        return path

    async def said(
        self, house: House, *recipients: str, message: bytes = SMALL, sender: str = "joe@local.test"
    ) -> list[bytes]:
        """The replies from the first RCPT on."""
        lines: list[bytes | str] = ["EHLO c.test", f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in recipients)]
        lines += ["DATA", message + b".\r\n"] if message else []
        replies = await in_thread(dialogue, house.listen(), *lines)
        return [reply[:9] for reply in replies[3:]]

    async def delivered(self, house: House) -> list[str]:
        await until(lambda: house.mta.status()["queued"] == 0)
        return sorted(str(path.relative_to(house.state).parent.parent) for path in house.state.glob("*/*/new/*"))

    async def test_each_target_gets_it_once(self) -> None:
        """Through other aliases, to other hosts, and to its own mailbox where it names itself; the sender stays."""
        house = self.house(
            "sales@local.test: [sales@local.test, ann@local.test, team@local.test]\n"
            "team@local.test: [ann@local.test, far@else.test]\n"
        )
        replies = await self.said(house, "Sales@local.test", "ann@local.test")
        self.assertEqual(replies, [OK, OK, b"354 End d", b"250 2.0.0"])
        found = await self.delivered(house)
        self.assertEqual(found, ["abroad/far@else.test", "maildir/ann@local.test", "maildir/sales@local.test"])
        self.assertEqual({one.sender for one in house.done}, {"joe@local.test"})

    async def test_strangers_reach_what_the_operator_has_named_and_nothing_else(self) -> None:
        """The alias meets the rules as from the client: who may not write to it gets no further; no other address of
        its targets' domains is opened.
        """
        house = self.house(
            "staff@local.test: ann@local.test\n"
            "out@local.test: far@else.test\n"
            "far@else.test: ann@local.test\n"
            "x@else.test: far@else.test\n"
        )
        replies = await self.said(
            house, "staff@local.test", "far@else.test", "x@else.test", "near@else.test", "out@local.test", message=b""
        )
        self.assertEqual(replies, [b"550 5.7.1"] * 4 + [OK])

    async def test_who_may_relay_meets_aliases_too(self) -> None:
        """Of whatever domain: the operator says so."""
        house = self.house("staff@local.test: ann@local.test\nfar@else.test: ann@local.test\n", trusted=TRUSTED)
        replies = await self.said(house, "staff@local.test", "far@else.test")
        self.assertEqual(replies[:2], [OK, OK])
        found = await self.delivered(house)
        self.assertEqual(found, ["maildir/ann@local.test"])

    async def test_postmaster(self) -> None:
        """email.postmaster may be an alias; `<postmaster>` reaches whom it stands for. RFC 5321 4.5.1."""
        house = self.house("root@local.test: [ann@local.test, far@else.test]\n")
        replies = await self.said(house, "postmaster")
        self.assertEqual(replies[0], OK)
        found = await self.delivered(house)
        self.assertEqual(found, ["abroad/far@else.test", "maildir/ann@local.test"])

    async def test_an_alias_exists_and_its_targets_must(self) -> None:
        """Nobody of a target's name: the others get it, and the log says so; nobody at all: the client is told."""
        local = evolve(LOCAL, recipients_file=self.known("ann"))
        house = self.house(
            "some@local.test: [gone@local.test, ann@local.test]\nold@local.test: gone@local.test\n", local
        )
        with capturedLogs() as logs:
            replies = await self.said(house, "old@local.test", "some@local.test")
        self.assertEqual(replies, [b"550 5.1.1", OK, b"354 End d", b"250 2.0.0"])
        self.assertIn("gone@local.test refused: 550 5.1.1", "\n".join(filter(None, map(formatEvent, logs))))
        found = await self.delivered(house)
        self.assertEqual(found, ["maildir/ann@local.test"])

    async def test_a_client_that_may_relay_is_told_of_lost_targets(self) -> None:
        """By a notification that names the alias, which it has written (RFC 3461 6.3, Original-Recipient)."""
        house = self.house(
            "some@local.test: [gone@local.test, ann@local.test]\n",
            evolve(LOCAL, recipients_file=self.known("ann", "joe")),
            trusted=TRUSTED,
        )
        replies = await self.said(house, "some@local.test")
        self.assertEqual(replies[-1], b"250 2.0.0")
        await until(lambda: house.mails("joe@local.test") and house.mails("ann@local.test"))
        _, group = groups(house.mails("joe@local.test")[0])
        self.assertEqual(group["Final-Recipient"], "rfc822; gone@local.test")
        self.assertEqual(group["Original-Recipient"], "rfc822; some@local.test")

    async def test_notices_to_an_alias_reach_whom_it_stands_for(self) -> None:
        """A sender that is one, and the postmaster that is one: in one message to all of them, by their rules."""
        trap = Rule(name="trap", match=RuleMatch(recipients=("big@local.test",), size_over=1), action=Reject())
        house = self.house(
            "team@local.test: [ann@local.test, far@else.test]\nroot@local.test: [bob@local.test, team@local.test]\n",
            trap,
            evolve(LOCAL, recipients_file=self.known("ann", "bob", "ok", "big")),
            ABROAD,
            trusted=TRUSTED,
        )
        replies = await self.said(house, "big@local.test", "ok@local.test", sender="team@local.test")
        self.assertEqual(replies[-1], b"250 2.0.0")
        await until(lambda: house.mails("ann@local.test"))
        found = await self.delivered(house)
        self.assertEqual(found, ["abroad/far@else.test", "maildir/ann@local.test", "maildir/ok@local.test"])
        self.assertIn(b"\nTo: <team@local.test>\n", house.mails("ann@local.test")[0])
        self.assertEqual(
            house.mta._admission.expand("root@local.test"), ("bob@local.test", "ann@local.test", "far@else.test")
        )

    async def test_an_alias_may_be_written_with_u_labels(self) -> None:
        """In the file and by the client (RFC 6531): it is the same one, and Original-Recipient has its A-labels."""
        known = evolve(LOCAL, match=RuleMatch(recipients=("*@local.test", "*@xn--mnchen-3ya.test")))
        house = self.house(
            "x@münchen.test: [gone@nowhere.test, ann@local.test]\n",
            evolve(known, recipients_file=self.known("ann", "joe")),
            trusted=TRUSTED,
        )
        lines = ["EHLO c.test", "MAIL FROM:<joe@local.test> SMTPUTF8", "RCPT TO:<x@münchen.test>"]
        replies = await in_thread(dialogue, house.listen(), *lines, "DATA", SMALL + b".\r\n")
        self.assertEqual([reply[:9] for reply in replies[-3:]], [OK, b"354 End d", b"250 2.0.0"])
        await until(lambda: house.mails("joe@local.test") and house.mails("ann@local.test"))
        self.assertIn(b"\nOriginal-Recipient: rfc822; x@xn--mnchen-3ya.test\n", house.mails("joe@local.test")[0])

    async def test_received_names_the_alias(self) -> None:
        """Not whom it stands for: `for` is what the client wrote (RFC 5321 4.4)."""
        house = self.house("sales@local.test: ann@local.test\n")
        await self.said(house, "sales@local.test")
        await until(lambda: house.mails("ann@local.test"))
        (mail,) = house.mails("ann@local.test")
        self.assertIn(b"for <sales@local.test>", mail)
        self.assertNotIn(b"ann@", mail.partition(b"\r\n\r\n")[0].partition(b"Received:")[2])

    async def test_the_message_decides_for_aliases_too(self) -> None:
        """By rules about the alias, and by those about its targets; a stranger's message is taken or refused whole."""
        house = self.house(
            "all@local.test: [ann@local.test, bob@local.test]\nlead@local.test: [ann@local.test, boss@local.test]\n"
            "chief@local.test: boss@local.test\n",
            BIG,
            LOCAL,
        )
        for names, expected in (
            (("ann", "all", "bob"), [OK, ALONE, OK]),
            (("all", "boss", "ann"), [OK, OK, ALONE]),
            (("chief", "all"), [OK, OK]),
            (("lead", "ann"), [OK, OK]),
        ):
            replies = await self.said(house, *(f"{name}@local.test" for name in names), message=b"")
            self.assertEqual(replies, expected, names)
        for name, answer in (("all", b"552 5.3.4"), ("chief", b"552 5.3.4"), ("lead", b"250 2.0.0")):
            replies = await self.said(house, f"{name}@local.test", message=LARGE)
            self.assertEqual(replies[-1], answer, name)
        found = await self.delivered(house)
        self.assertEqual(found, ["maildir/ann@local.test"])

    async def test_too_many_for_one_message(self) -> None:
        """Fan-out is bounded: what does not fit comes back in a message of its own. Limits of rules count targets."""
        names = ", ".join(f"u{at}@local.test" for at in range(600))
        few = evolve(
            LOCAL, name="few", match=RuleMatch(recipients=("*@few.test",)), limits=RuleLimits(max_recipients=1)
        )
        house = self.house(
            f"a@local.test: [{names}]\nb@local.test: [{names.replace('u', 'v')}]\n"
            "c@local.test: [x@few.test, ann@local.test]\n",
            LOCAL,
            few,
        )
        replies = await self.said(house, "a@local.test", "b@local.test", message=b"")
        self.assertEqual(replies, [OK, ALONE])
        replies = await self.said(house, "x@few.test", "c@local.test", message=b"")
        self.assertEqual(replies, [OK, ALONE])

    async def test_the_file_is_followed(self) -> None:
        """When it changes; a broken or missing one leaves what it said in force; none at all takes nobody: 451."""
        house = self.house("sales@local.test: ann@local.test\n")
        await self.said(house, "sales@local.test")
        watched = house.mta._admission._aliases
        assert watched is not None
        for text, count in (("sales@local.test: []\n", 1), (None, 1), ("", 1), ("{}", 0)):
            self.path.unlink(missing_ok=True)
            if text is not None:
                self.path.write_text(text)
            watched._looked, watched._now = float("-inf"), lambda: 2e9
            replies = await self.said(house, "sales@local.test", message=b"")
            self.assertEqual((replies, len(watched.value or ())), ([OK], count))
        missing = House(self, LOCAL, aliases_file=self.path.with_name("missing"))
        replies = await self.said(missing, "joe@local.test", message=b"")
        self.assertEqual(replies, [b"451 4.3.0"])

    async def test_a_reload_brings_another_file_or_none(self) -> None:
        """From the next command on."""
        house = self.house("sales@local.test: [far@else.test]\n")
        other = Path(self.mktemp()).absolute()
        other.write_text("info@else.test: ann@local.test\ninfo@local.test: ann@local.test\n")
        await self.said(house, "sales@local.test", message=b"")
        for path, expected in ((other, {"info@local.test": ("ann@local.test",)}), (None, {})):
            changed = evolve(house.config, email=evolve(house.email, aliases_file=path))
            house.mta.reload(house.mta.succession(changed, {}), house.chooser, house.heard)
            replies = await self.said(house, "info@local.test", message=b"")
            self.assertEqual(replies, [OK])
            aliases = house.mta._admission._aliases
            for alias, targets in expected.items():
                assert aliases is not None and aliases.value is not None
                self.assertEqual(aliases.value.expand(alias), targets)
            self.assertEqual(aliases is None, path is None)
