"""Guards in front of real sessions."""

from __future__ import annotations

import sqlite3

from twisted.trial.unittest import TestCase

from dcrouter.config.guards import MailLimit
from dcrouter.config.rates import Rate
from tests.mail.house import LOCAL, House, dialogue, in_thread, send
from tests.mail.test_reload import reload
from tests.support.facts import until

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
            with sqlite3.connect(house.state / "mail" / "guards.db") as database:
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
        self.assertFalse((house.state / "mail" / "guards.db").exists())
