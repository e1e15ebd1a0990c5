"""The queue's keys in the mail half as a whole: the store, its room, and who hears of it."""

from __future__ import annotations

import os

from twisted.logger import formatEvent
from twisted.trial.unittest import TestCase

from dcrouter.config.queue import Queue
from tests.mail.house import LOCAL, House, dialogue, forward, in_thread, send
from tests.support.facts import until
from tests.support.logged import logged

HEAD = ("EHLO c.test", "MAIL FROM:<a@x.test>")
MESSAGE = (*HEAD, "RCPT TO:<b@example.test>", "DATA", b"Subject: x\r\n\r\ny\r\n.\r\n")


class KeepingTests(TestCase):
    async def test_the_store_in_memory_delivers_as_well(self) -> None:
        """A small message and a large one to a Maildir; nothing of the queue is on the disk afterwards."""
        house = House(self, LOCAL, queue=Queue(store="memory"))
        port = house.listen()
        await in_thread(send, port, "b@local.test")
        await in_thread(send, port, "b@local.test", body="Subject: x\r\n\r\n" + ("y" * 70 + "\r\n") * 3000)
        await until(lambda: len(house.mails("b@local.test")) == 2)
        await until(lambda: house.mta.status()["queued"] == 0)
        mail = house.state / "mail"
        await until(lambda: {path.name for path in mail.rglob("*")} == {"lock", "login.key", "memory-spool"})

    async def test_a_queue_of_its_largest_size_refuses_at_mail(self) -> None:
        """452 4.3.1, until a message has left."""
        house = House(self, forward(1), queue=Queue(max_size=1))
        port = house.listen()
        replies = await in_thread(dialogue, port, *MESSAGE)
        self.assertEqual(replies[-1][:9], b"250 2.0.0")
        replies = await in_thread(dialogue, port, *HEAD)
        self.assertEqual(replies[-1][:9], b"452 4.3.1")
        await house.idle()
        (row,) = await house.queue()
        await house.mta.queue_ask({"do": "drop", "messages": [row["message"]]})
        replies = await in_thread(dialogue, port, *MESSAGE)
        self.assertEqual(replies[-1][:9], b"250 2.0.0")

    async def test_a_disk_that_is_nearly_full_takes_no_mail_and_still_delivers(self) -> None:
        """Less than min_free_disk: refused at MAIL, and at the end of what has begun; what is queued goes on."""
        house = House(self, LOCAL, queue=Queue(min_free_disk=1 << 20))
        port = house.listen()
        await in_thread(send, port, "b@local.test")
        await until(lambda: len(house.mails("b@local.test")) == 1)
        free = os.statvfs(house.state)
        short = os.statvfs_result((*free[:3], 1, 1, *free[5:]))
        self.patch(os, "statvfs", lambda path: short)
        await until(lambda: house.mta._queue.full)
        replies = await in_thread(dialogue, port, *HEAD)
        self.assertEqual(replies[-1][:9], b"452 4.3.1")
        self.flushLoggedErrors()

    async def test_a_maildir_that_cannot_be_is_told_with_its_place(self) -> None:
        """In the log, for the operator; the reply, which a notice tells the sender, has the reason alone."""
        heard = logged(self)
        house = House(self, LOCAL)
        place = house.state / "maildir" / "b@local.test"
        place.parent.mkdir()
        place.write_text("")
        port = house.listen()
        await in_thread(send, port, "b@local.test")
        await until(lambda: house.mta.status()["deferred"] == 1)
        (line,) = [formatEvent(event) for event in heard if event.get("outcome") == "deferred"]
        self.assertTrue(line.endswith(f" to b@local.test: deferred (4.3.0 File exists) at {place}"), line)

    async def test_the_queue_is_counted(self) -> None:
        """By state, and the age of the oldest message in seconds."""
        house = House(self, forward(1))
        port = house.listen()
        self.assertIsNone((await house.mta.queue_counts())["oldest"])
        await in_thread(send, port, "b@example.test")
        await house.idle()
        counts = await house.mta.queue_counts()
        self.assertEqual((counts["queued"], counts["deferred"], counts["held"], counts["failed"]), (0, 1, 0, 0))
        self.assertLess(counts["oldest"], 60)
