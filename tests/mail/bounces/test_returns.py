"""Mail that comes back to marked senders and to feedback addresses: matched, counted, learnt from, and delivered."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcrouter.config.mail import Email
from dcrouter.config.queue import Bounces, Suppress
from dcrouter.config.rules import Deliver, Mta, Reject, Rule, RuleMatch
from dcrouter.mail.bounces.inbound import Inbound
from dcrouter.mail.bounces.marks import Mark, Marks
from tests.mail.house import House, in_thread, send
from tests.mail.nexthop import ScriptedHop
from tests.support.facts import until
from tests.support.nameserver import Nameserver
from tests.wire import test_returned

DSN, ARF = (text.replace("\n", "\r\n") for text in (test_returned.DSN, test_returned.ARF))
OURS = Rule(name="ours", match=RuleMatch(recipients=("*@example.com",)), action=Deliver(maildir="maildir/{recipient}"))
OUT = Rule(name="out", match=RuleMatch(recipients=("*@example.net",)), action=Mta())


class MarksTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.marks = Marks(self.directory)
        self.marks.open()

    def test_a_mark(self) -> None:
        """Is read again, over a restart, and in upper case; for its recipient only."""
        marked = self.marks.marked("news@example.com", 0x1F2E3D, 7, "Bob@example.net")
        self.assertRegex(marked, r"^news\+1f2e3d-7-[a-z2-7]{16}@example\.com$")
        again = Marks(self.directory)
        again.open()
        for address in (marked, marked.upper()):
            mark = again.read(address)
            assert mark is not None
            self.assertEqual((mark.sender.lower(), mark.message, mark.number), ("news@example.com", 0x1F2E3D, 7))
            self.assertTrue(again.about(mark, "bob@Example.net"))
            self.assertFalse(again.about(mark, "carol@example.net"))
        self.assertEqual((self.directory / "returns.key").stat().st_mode & 0o777, 0o600)

    def test_a_mark_of_somebody_else(self) -> None:
        """Another key, another number: none of ours."""
        marked = self.marks.marked("news@example.com", 0x1F2E3D, 7, "bob@example.net")
        self.assertIsNone(self.marks.read(marked.replace("-7-", "-8-")))
        other = Marks(Path(self.mktemp()))
        other.open()
        self.assertIsNone(other.read(marked))
        self.assertIsNone(Marks(self.directory).read(marked))

    def test_a_mark_in_letters_that_only_look_alike(self) -> None:
        """U+017F, a long s, is an s in capitals: a mark is written in ASCII, or it is none."""
        for own in ("\u017f" * 16, "\u212a" * 16):
            self.assertIsNone(self.marks.read(f"news+1f2e3d-7-{own}@example.com"))
            self.assertIsNone(self.marks.read(f"news+1f2e3d-7-{own}{own}@example.com"))

    def test_no_room_for_a_mark(self) -> None:
        """RFC 5321 4.5.3.1.1: a local part has 64 octets; a quoted one stays, too."""
        for sender in (f"{'a' * 50}@example.com", '"a b"@example.com'):
            self.assertEqual(self.marks.marked(sender, 1 << 60, 0, "b@example.net"), sender)

    @given(st.text(max_size=100))
    def test_anything_is_a_mark_or_none(self, text: str) -> None:
        """Nothing that nobody has signed."""
        for address in (text, f"{text}@example.com", f"a+1-0-{text}@example.com"):
            self.assertIsNone(self.marks.read(address))

    def test_a_mark_is_a_value(self) -> None:
        """With the bare sender."""
        mark = self.marks.read(self.marks.marked("a+b@example.com", 1, 0, "b@example.net"))
        assert isinstance(mark, Mark)
        self.assertEqual(mark.sender, "a+b@example.com")


class InboundTests(SynchronousTestCase):
    def takes(self, address: str, *rules: Rule) -> bool:
        return Inbound(Email(hostname="mail.example.com", postmaster="root@example.com", rules=rules)).takes(address)

    def test_who_is_ours(self) -> None:
        """Whom a stranger may write to, whatever network that mail comes from: a filter in front, or the world."""
        filtered = ip_network("192.0.2.0/24")
        here = ("*@example.com",)
        for match, action, ours in (
            (RuleMatch(recipients=here), OURS.action, True),
            (RuleMatch(recipients=here, client_ips=(filtered,)), Mta(), True),
            (RuleMatch(recipients=here, headers={"x": "y"}), OURS.action, True),
            (RuleMatch(recipients=here), Reject(), False),
            (RuleMatch(recipients=here, clients="may_relay"), OURS.action, False),
            (RuleMatch(clients="may_relay"), Mta(), False),
            (RuleMatch(recipients=("*",), client_ips=(filtered,)), Mta(), False),
            (RuleMatch(client_ips=(filtered,)), Mta(), False),
            (RuleMatch(recipients=("*@example.org",)), OURS.action, False),
        ):
            self.assertEqual(self.takes("news@example.com", Rule(name="a", match=match, action=action)), ours, match)
        banned = Rule(name="b", match=RuleMatch(client_ips=(filtered,)), action=Reject())
        self.assertTrue(self.takes("news@example.com", banned, OURS))


class ReturnsTests(TestCase):
    def setUp(self) -> None:
        self.dns = Nameserver(self)
        self.dns.add("example.net", "MX", "10 mx.example.net.")
        self.dns.add("mx.example.net", "A", "127.0.0.1")
        self.hop = ScriptedHop(self)

    def house(self, **bounces: Any) -> House:
        bounces.setdefault("suppress", Suppress())
        return House(
            self,
            OURS,
            OUT,
            resolver=self.dns.config(),
            mx_port=self.hop.port,
            bounces=Bounces(**bounces),
        )

    async def sent(self, house: House, *recipients: str) -> tuple[int, dict[str, str]]:
        """The port; and the senders of what the hop gets: recipient -> address."""
        port = house.listen()
        await in_thread(send, port, *recipients, sender="news@example.com")
        await until(lambda: len(self.hop.messages) == len(recipients))
        found = {}
        for envelope, _ in self.hop.messages:
            self.assertEqual(len(envelope), 2)
            found[envelope[1].partition("<")[2].partition(">")[0]] = envelope[0].partition("<")[2].partition(">")[0]
        return port, found

    async def test_a_failure_comes_back(self) -> None:
        """Each recipient has a sender of its own; what comes back there is told, learnt, and goes to the sender."""
        house = self.house(verp=True)
        port, senders = await self.sent(house, "bob@example.net", "carol@example.net")
        self.assertEqual(len(set(senders.values())), 2)
        await in_thread(send, port, senders["bob@example.net"], sender="", body=DSN)
        await until(lambda: len(house.returned) == 2)
        first, second = house.returned
        self.assertEqual((first.sender, first.recipient, first.what), ("news@example.com", "bob@example.net", "failed"))
        self.assertEqual((second.recipient, second.what), (None, "delayed"))
        await until(lambda: house.mails("news@example.com"))
        self.assertEqual(house.mta.status()["returned"], 2)
        listed = house.mta.suppression({"do": "list"})["suppressed"]
        self.assertEqual([(one["address"], one["why"]) for one in listed], [("bob@example.net", "bad-mailbox")])

    async def test_a_sender_elsewhere_stays(self) -> None:
        """Mail that we only pass on, as for an alias, keeps its sender: its own servers know no mark of ours."""
        house = self.house(verp=True)
        await in_thread(send, house.listen(), "bob@example.net", sender="joe@sender.test")
        await until(lambda: self.hop.messages)
        self.assertIn("MAIL FROM:<joe@sender.test>", self.hop.messages[0][0][0])

    async def test_nobody_can_have_another_suppressed(self) -> None:
        """A report to carol's mark that says that bob has failed is told of, without him."""
        house = self.house(verp=True)
        port, senders = await self.sent(house, "bob@example.net", "carol@example.net")
        lying = DSN.replace("robert@inner.", "bob@").replace("Action: delayed", "Action: failed", 1)
        await in_thread(send, port, senders["carol@example.net"], sender="", body=lying.replace("carol@", "dave@"))
        await until(lambda: len(house.returned) == 2)
        self.assertEqual([one.recipient for one in house.returned], [None, None])
        self.assertEqual(house.mta.suppression({"do": "list"})["suppressed"], [])

    async def test_a_complaint_comes_back(self) -> None:
        """RFC 5965: to the feedback address, with the sender that it quotes; `not-spam` is none (standards)."""
        house = self.house(verp=True, feedback=("fbl@example.com",))
        port, senders = await self.sent(house, "user@example.net")
        report = ARF.replace("news+1-0-aaaaaaaabbbbbbbb@example.com", senders["user@example.net"])
        await in_thread(send, port, "fbl@example.com", sender="a@b.test", body=report.replace("Abuse", "not-spam"))
        await until(lambda: len(house.returned) == 1)
        self.assertEqual(house.mta.suppression({"do": "list"})["suppressed"], [])
        await in_thread(send, port, "fbl@example.com", sender="a@b.test", body=report)
        await until(lambda: len(house.returned) == 2)
        told = house.returned[1]
        self.assertEqual((told.what, told.reply, told.recipient), ("feedback", "abuse", "user@example.net"))
        self.assertEqual(house.mta.status()["complaints"], 1)
        listed = house.mta.suppression({"do": "list"})["suppressed"]
        self.assertEqual([(one["address"], one["why"]) for one in listed], [("user@example.net", "complaint")])

    async def test_a_complaint_about_nothing_of_ours(self) -> None:
        """Counted, and that is all."""
        house = self.house(feedback=("fbl@example.com",))
        await in_thread(send, house.listen(), "fbl@example.com", sender="a@b.test", body=ARF)
        await until(lambda: house.mta.status()["unmatched"] == 1)
        self.assertEqual(house.returned, [])

    async def test_without_marks(self) -> None:
        """Several recipients share a transaction, and a plus in an address is a plus."""
        house = self.house()
        port = house.listen()
        await in_thread(send, port, "bob@example.net", "carol@example.net", sender="news@example.com")
        await until(lambda: self.hop.messages)
        self.assertEqual(self.hop.messages[0][0][0].split()[0], "MAIL")
        self.assertEqual(len(self.hop.messages[0][0]), 3)
        await in_thread(send, port, "news+1-0-aaaaaaaabbbbbbbb@example.com", sender="", body=DSN)
        await until(
            lambda: (
                house.mails("news%2B1-0-aaaaaaaabbbbbbbb@example.com")
                or house.mails("news+1-0-aaaaaaaabbbbbbbb@example.com")
            )
        )
        self.assertEqual(house.returned, [])
