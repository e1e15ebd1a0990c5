"""Guards in front of real sessions."""

from __future__ import annotations

import sqlite3
from ipaddress import ip_network
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dcrouter.config.guards import Dnsbl, Greylist, MailLimit
from dcrouter.config.mail import MailTimeouts
from dcrouter.config.rates import Rate
from tests.mail.house import LOCAL, House, dialogue, in_thread, send
from tests.mail.test_reload import reload
from tests.support.facts import until
from tests.support.nameserver import Nameserver

MESSAGE = (
    "EHLO me.test",
    "MAIL FROM:<a@x.test>",
    "RCPT TO:<u@local.test>",
    "DATA",
    b"Subject: x\r\n\r\ntext\r\n.\r\n",
)


class LimitTests(TestCase):
    async def test_a_quota_survives_a_restart(self) -> None:
        """What came before it counts, also where the process was killed a while later; 451 4.7.1 at RCPT, and an event
        that says who it was.
        """
        limits = (MailLimit(key="recipient_domain", quota=(2, 86400.0), alert=True),)
        house = House(self, rate_limits=limits)
        for _ in range(2):
            await in_thread(send, house.listen(), "u@local.test")

        def written() -> list[object]:
            with sqlite3.connect(house.state / "mail" / "ledger.db") as database:
                return database.execute("SELECT value FROM row").fetchall()

        await until(lambda: written() == [(2.0,)])
        await house.close()
        house = House(self, state=house.state, rate_limits=limits)
        replies = await in_thread(dialogue, house.listen(), *MESSAGE[:3])
        self.assertEqual(replies[-1], b"451 4.7.1 Too much mail, try again later")
        self.assertEqual(
            [(event.who, event.limit) for event in house.limited],
            [("local.test", "messages by recipient_domain, quota 2/day")],
        )
        self.assertEqual(house.mta.status()["limited"], 1)

    async def test_octets_count_when_they_have_come(self) -> None:
        """The first message is taken whole, the next is refused at MAIL."""
        house = House(self, rate_limits=(MailLimit(key="client_ip", count="bytes", rate=Rate(rate=(10, 3600.0))),))
        port = house.listen()
        replies = await in_thread(dialogue, port, *MESSAGE, "MAIL FROM:<a@x.test>")
        self.assertEqual([reply[:3] for reply in replies[-2:]], [b"250", b"451"])

    async def test_limits_follow_a_reload(self) -> None:
        """From the next command on, in connections that are open too; what was counted stays."""
        house = House(self, rate_limits=(MailLimit(key="client_ip", rate=Rate(rate=(1, 3600.0))),))
        await in_thread(send, house.listen(), "u@local.test")
        replies = await in_thread(dialogue, house.listen(), *MESSAGE[:2])
        self.assertEqual(replies[-1][:9], b"451 4.7.1")
        reload(house, LOCAL, rate_limits=())
        await in_thread(send, house.listen(), "u@local.test")
        reload(house, LOCAL, rate_limits=(MailLimit(key="client_ip", then="reject", rate=Rate(rate=(1, 86400.0))),))
        await in_thread(send, house.listen(), "u@local.test")
        replies = await in_thread(dialogue, house.listen(), *MESSAGE[:2])
        self.assertEqual(replies[-1][:9], b"550 5.7.1")

    async def test_who_guards_nothing_has_no_file(self) -> None:
        """And nothing to pay."""
        house = House(self)
        await in_thread(send, house.listen(), "u@local.test")
        self.assertFalse((house.state / "mail" / "ledger.db").exists())


class ListTests(TestCase):
    def setUp(self) -> None:
        self.server = Nameserver(self)
        self.server.add("9.2.0.192.zen.example", "A", "127.0.0.2")
        self.lists: dict[str, Any] = {
            "resolver": self.server.config(),
            "dnsbl": (Dnsbl(zone="zen.example", score=3),),
            "timeouts": MailTimeouts(),
        }

    async def test_a_client_that_is_listed_is_refused_at_rcpt(self) -> None:
        """550 5.7.1 that names the list; mail to postmaster is taken (RFC 5321 4.5.1), by its own name and address."""
        house = House(self, **self.lists)
        port = house.listen(peer=("192.0.2.9", 4711))
        to = ("<u@local.test>", "<postmaster>", "<Postmaster@local.test>", "<u@elsewhere.test>")
        replies = await in_thread(dialogue, port, *MESSAGE[:2], *(f"RCPT TO:{one}" for one in to))
        self.assertEqual(
            replies[-4:],
            [
                b"550 5.7.1 Client host [192.0.2.9] is listed by zen.example",
                b"250 2.1.5 OK",
                b"250 2.1.5 OK",
                b"550 5.7.1 Relaying denied",
            ],
        )
        self.assertEqual(house.mta.status()["listed"], 1)

    async def test_lists_are_asked_when_the_client_says_ehlo(self) -> None:
        """Once for all that it sends; a client that only connects costs no question."""
        house = House(self, **self.lists)
        port = house.listen(peer=("192.0.2.9", 4711))
        await in_thread(dialogue, port, "NOOP")
        self.assertEqual(self.server.questions, [])
        await in_thread(dialogue, port, "EHLO me.test")
        await until(lambda: self.server.asked("9.2.0.192.zen.example", "A") == 1)
        await in_thread(dialogue, port, *MESSAGE[:3])
        self.assertEqual(self.server.asked("9.2.0.192.zen.example", "A"), 1)

    async def test_only_strangers_on_smtp_ports_are_looked_up(self) -> None:
        """Not who is trusted, nor who comes to log in: their own network may well be listed."""
        trusted = (ip_network("192.0.2.0/24"),)
        house = House(self, trusted=trusted, **self.lists)
        await in_thread(dialogue, house.listen(peer=("192.0.2.9", 4711)), *MESSAGE[:3])
        await in_thread(dialogue, house.listen("submission", peer=("203.0.113.9", 4711)), *MESSAGE[:2])
        self.assertEqual(self.server.questions, [])

    async def test_recipients_wait_for_a_slow_list(self) -> None:
        """The session stands still meanwhile, and its replies stay in order (RFC 2920 3.2)."""
        self.server.delay = 0.3
        house = House(self, **self.lists)
        port = house.listen(peer=("192.0.2.9", 4711))
        group = "MAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\nRCPT TO:<postmaster>\r\nNOOP"
        replies = await in_thread(dialogue, port, MESSAGE[0], group, b"", b"", b"")
        self.assertEqual([reply[:9] for reply in replies[2:]], [b"250 2.1.0", b"550 5.7.1", b"250 2.1.5", b"250 2.0.0"])

    async def test_lists_follow_a_reload(self) -> None:
        """The score that refuses, in connections that are open."""
        house = House(self, dnsbl_reject_at=4, **self.lists)
        port = house.listen(peer=("192.0.2.9", 4711))
        replies = await in_thread(dialogue, port, *MESSAGE[:3])
        self.assertEqual(replies[-1][:3], b"250")
        reload(house, LOCAL, dnsbl_reject_at=3)
        replies = await in_thread(dialogue, port, *MESSAGE[:3])
        self.assertEqual(replies[-1][:9], b"550 5.7.1")


class GreylistTests(TestCase):
    async def test_strangers_come_again(self) -> None:
        """451 4.7.1 at RCPT (RFC 6647 2.3), for recipients that exist; the second time their message is taken, also
        after a restart.
        """
        house = House(self, greylist=Greylist(delay=0.5))
        replies = await in_thread(dialogue, house.listen(), *MESSAGE[:3], "RCPT TO:<u@elsewhere.test>")
        self.assertEqual(replies[-2:], [b"451 4.7.1 Greylisted, come again in 1 s", b"550 5.7.1 Relaying denied"])
        self.assertEqual(house.mta.status()["greylisted"], 1)
        await house.close()
        house = House(self, state=house.state, greylist=Greylist(delay=0.5))
        port = house.listen()

        async def passed() -> bool:
            return (await in_thread(dialogue, port, *MESSAGE[:3]))[-1][:3] == b"250"

        await until(lambda: Deferred.fromCoroutine(passed()))
        await in_thread(send, port, "other@local.test")

    async def test_who_may_relay_does_not_wait(self) -> None:
        """Trusted clients have proved themselves otherwise (RFC 6647 5)."""
        house = House(self, greylist=Greylist(delay=300.0), trusted=(ip_network("127.0.0.1/32"),))
        await in_thread(send, house.listen(), "u@local.test")
