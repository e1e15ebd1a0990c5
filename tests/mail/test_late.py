"""Rules that ask for headers and size, end to end: one reply serves many recipients (RFC 5321 4.2.5)."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from dcrouter.config.rates import Rate
from dcrouter.config.rules import Deliver, Reject, Rule, RuleLimits, RuleMatch
from tests.mail.house import LOCAL, House, dialogue, in_thread
from tests.mail.notices import groups
from tests.support.facts import until

BIG = Rule(
    name="big",
    match=RuleMatch(recipients=("boss@local.test", "chief@local.test"), size_over=1000),
    action=Reject(code=552, message="5.3.4 Too big for the boss"),
)
LISTS = Rule(
    name="lists",
    match=RuleMatch(recipients=("*@local.test",), headers={"x-list": "re:.+"}),
    action=Deliver(maildir="lists/{recipient}"),
)
SMALL = b"Subject: x\r\n\r\ntext\r\n"
LARGE = SMALL + b"text text text\r\n" * 100
SPOOLED = SMALL + b"text text text\r\n" * 20_000
LISTED = b"X-List: a\r\n" + SMALL
TRUSTED = (ip_network("127.0.0.0/8"),)


def rcpt(*names: str) -> list[str]:
    return ["EHLO c.test", "MAIL FROM:<joe@local.test>", *(f"RCPT TO:<{name}@local.test>" for name in names)]


class LateTests(TestCase):
    async def said(self, port: int, *names: str, message: bytes = SMALL) -> list[bytes]:
        """The replies from the first RCPT on; the last is the message's."""
        lines: list[bytes | str] = [*rcpt(*names), *(("DATA", message + b".\r\n") if message else ())]
        replies = await in_thread(dialogue, port, *lines)
        return [reply[:9] for reply in replies[3:]]

    async def test_the_message_decides_which_rule_is_met(self) -> None:
        """By its headers, by its size in memory or as a file; the queue knows the rule that it has met."""
        house = House(self, BIG, LISTS, LOCAL)
        port = house.listen()
        for message, answer in ((SMALL, b"250 2.0.0"), (LISTED, b"250 2.0.0"), (LARGE, b"552 5.3.4")):
            replies = await self.said(port, "boss", message=message)
            self.assertEqual(replies, [b"250 2.1.5", b"354 End d", answer], message[:20])
        replies = await self.said(port, "boss", message=SPOOLED)
        self.assertEqual(replies[-1], b"552 5.3.4")
        await until(lambda: house.mails("boss@local.test"))
        await until(lambda: list((house.state / "lists/boss@local.test/new").glob("*")))
        await until(lambda: house.mta.status()["queued"] == 0)
        self.assertEqual(len(house.mails("boss@local.test")), 1)
        self.assertEqual(sorted(one.rule for one in house.done), ["lists", "local"])
        await until(lambda: not list((house.state / "mail" / "spool").glob("*")))
        self.assertEqual(house.mta.status()["refused"], 2)

    async def test_exactly_as_large_is_not_over(self) -> None:
        """Octets that the client has sent, without the end mark (RFC 1870 3) and without what we add."""
        house = House(self, BIG, LOCAL)
        port = house.listen()
        for octets, answer in ((1000, b"250 2.0.0"), (1001, b"552 5.3.4")):
            message = SMALL + b"x" * (octets - len(SMALL) - 2) + b"\r\n"
            replies = await self.said(port, "boss", message=message)
            self.assertEqual(replies[-1], answer, octets)

    async def test_chunks_are_measured_together(self) -> None:
        """RFC 3030: what the last one ends is the message."""
        house = House(self, BIG, LISTS, LOCAL)
        for first, answer in ((LISTED, b"250 2.0.0"), (LARGE, b"552 5.3.4")):
            chunks = [b"BDAT %d\r\n" % len(first) + first, b"BDAT 3 LAST\r\nx\r\n"]
            replies = await in_thread(dialogue, house.listen(), *rcpt("boss"), *chunks)
            self.assertEqual([reply[:9] for reply in replies[-2:]], [b"250 2.0.0", answer])
        await until(lambda: [one.rule for one in house.done] == ["lists"])

    async def test_a_stranger_s_recipients_are_all_taken_or_all_refused(self) -> None:
        """Whose rules could decide otherwise than the first one's comes back alone: 452 4.5.3 (architecture, 3)."""
        house = House(self, BIG, LISTS, LOCAL)
        port = house.listen()
        ok, alone = b"250 2.1.5", b"452 4.5.3"
        for names, expected in (
            (("boss", "chief"), [ok, ok]),
            (("joe", "boss", "ann"), [ok, alone, ok]),
            (("boss", "joe", "chief"), [ok, alone, ok]),
        ):
            replies = await self.said(port, *names, message=b"")
            self.assertEqual(replies, expected, names)
        replies = await self.said(port, "boss", "chief", message=LARGE)
        self.assertEqual(replies[-1], b"552 5.3.4")
        self.assertEqual(house.mta.status()["queued"], 0)

    async def test_who_may_relay_is_told_of_the_refused_ones(self) -> None:
        """250 for the others, and a notification with the reply that the recipient would have got; all refused: 5xx."""
        house = House(self, BIG, LOCAL, trusted=TRUSTED)
        port = house.listen()
        with capturedLogs() as logs:
            replies = await self.said(port, "boss", "ann", "chief", message=LARGE)
        self.assertEqual(replies, [b"250 2.1.5"] * 3 + [b"354 End d", b"250 2.0.0"])
        self.assertIn(
            "boss@local.test refused: 552 5.3.4 Too big for the boss (rule big)",
            "\n".join(filter(None, map(formatEvent, logs))),
        )
        await until(lambda: house.mails("ann@local.test") and house.mails("joe@local.test"))
        await until(lambda: house.mta.status()["queued"] == 0)
        recipients = groups(house.mails("joe@local.test")[0])[1:]
        self.assertEqual(
            [(one["Final-Recipient"], one["Action"], one["Status"]) for one in recipients],
            [(f"rfc822; {name}@local.test", "failed", "5.3.4") for name in ("boss", "chief")],
        )
        self.assertEqual(house.mails("boss@local.test"), [])
        replies = await self.said(port, "boss", "chief", message=LARGE)
        self.assertEqual(replies[-1], b"552 5.3.4")

    async def test_nobody_is_given_up_who_would_be_taken_later(self) -> None:
        """All are refused, one of them for now: the reply is temporary."""
        later = Rule(
            name="later",
            match=RuleMatch(recipients=("slow@local.test",), size_over=1000),
            action=Reject(code=450, message="4.7.1 Not now"),
        )
        house = House(self, BIG, later, LOCAL, trusted=TRUSTED)
        replies = await self.said(house.listen(), "boss", "slow", message=LARGE)
        self.assertEqual(replies[-1], b"450 4.7.1")

    async def test_whom_every_rule_refuses_is_refused_at_rcpt(self) -> None:
        """By the reply that does not depend on the message; nobody waits for the message with it."""
        never = Rule(name="never", match=RuleMatch(recipients=("boss@local.test",)), action=Reject(message="5.1.1 No"))
        house = House(self, BIG, never, LOCAL)
        replies = await self.said(house.listen(), "boss", "joe", message=b"")
        self.assertEqual(replies, [b"550 5.1.1", b"250 2.1.5"])

    async def test_what_hangs_on_each_rule_holds(self) -> None:
        """Who exists by one rule and not by another; a message counts for a rule that asked for it when it takes it."""
        known = Path(self.mktemp()).absolute()
        known.write_text("ann@local.test\n")
        limited = Rule(
            name="limited",
            match=LISTS.match,
            limits=RuleLimits(messages=Rate(rate=(1, 3600.0)), max_recipients=1),
            recipients_file=known,
            action=LISTS.action,
        )
        house = House(self, limited, LOCAL)
        port = house.listen()
        replies = await self.said(port, "joe", message=LISTED)
        self.assertEqual(replies[-1], b"550 5.1.1")
        for message, answer in ((SMALL, b"250 2.0.0"), (LISTED, b"250 2.0.0")):
            replies = await self.said(port, "ann", message=message)
            self.assertEqual(replies[-1], answer)
        replies = await self.said(port, "ann", message=b"")
        self.assertEqual(replies, [b"451 4.7.1"])

    async def test_a_header_without_end_is_not_searched(self) -> None:
        """554 beyond 64 KB, from whoever it comes."""
        house = House(self, LISTS, LOCAL, trusted=TRUSTED)
        head = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 900) for number in range(80))
        replies = await self.said(house.listen(), "joe", message=head + b"X-List: a\r\n\r\ntext\r\n")
        self.assertEqual(replies[-1], b"554 5.6.0")
        await until(lambda: not list((house.state / "mail" / "spool").glob("*")))
