"""Large messages on their way out: as they are, by sendfile, or stuffed; octet by octet what came in."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
from pathlib import Path

from twisted.trial.unittest import TestCase

from dcrouter.mail.delivery import body
from tests.mail.house import House, forward, in_thread, send
from tests.mail.nexthop import ScriptedHop
from tests.support.certificates import Authority
from tests.support.facts import until

PLAIN = "Subject: x\r\n\r\n" + "a line of text\r\n" * 200_000
DOTTED = "Subject: x\r\n\r\n" + "a line of text\r\n.\r\n..two\r\n" * 100_000


class BodyTests(TestCase):
    def setUp(self) -> None:
        self.sent: list[int] = []
        sendfile = os.sendfile

        def counted(out: int, source: int, at: int, count: int) -> int:
            sent = sendfile(out, source, at, count)
            self.sent.append(sent)
            return sent

        self.patch(os, "sendfile", counted)

    async def test_with_dots_and_without_on_one_connection(self) -> None:
        """One after the other, each way after each; the file that needs no dots never comes into Python."""
        hop = ScriptedHop(self)
        house = House(self, forward(hop.port))
        port = house.listen()
        for number, text in enumerate((PLAIN, DOTTED, PLAIN, PLAIN, DOTTED, DOTTED), 1):
            before = sum(self.sent)
            await in_thread(send, port, "b@example.test", body=text)
            await until(lambda number=number: house.mta.status()["delivered"] == number, 60)
            got = hop.messages[-1][1]
            self.assertTrue(got.endswith(text.encode()))
            self.assertEqual(got.count(b"Received: "), 1)
            self.assertEqual(sum(self.sent) - before, len(got) if text is PLAIN else 0)
        self.assertEqual(hop.connections, 1)
        await until(lambda: not list((house.state / "mail" / "spool").iterdir()))

    async def test_inside_tls(self) -> None:
        """Whole and in order, however long each piece takes to be read; no two are read at once."""
        at_once: list[int] = []
        under_way: list[int] = []
        pread = os.pread

        def slow(fd: int, count: int, at: int) -> bytes:
            under_way.append(at)
            at_once.append(len(under_way))
            time.sleep(random.random() / 100)
            try:
                return pread(fd, count, at)
            finally:
                under_way.remove(at)

        self.patch(os, "pread", slow)
        hop = ScriptedHop(self, tls=Authority().credential(["next.test"]))
        house = House(self, forward(hop.port))
        port = house.listen()
        for number, text in enumerate((DOTTED, PLAIN, DOTTED), 1):
            await in_thread(send, port, "b@example.test", body=text)
            await until(lambda number=number: house.mta.status()["delivered"] == number, 60)
            self.assertTrue(hop.messages[-1][1].endswith(text.encode()))
        self.assertEqual((hop.connections, hop.secured, len(hop.messages), sum(self.sent)), (1, 1, 3, 0))
        self.assertEqual(set(at_once), {1})

    async def test_a_second_attempt_inside_tls(self) -> None:
        """A small message comes from the store then."""
        hop = ScriptedHop(self, tls=Authority().credential(["next.test"]), RCPT="451 4.7.1 later")
        house = House(self, forward(hop.port))
        text = "Subject: x\r\n\r\nwhat was said\r\n.\r\n"
        await in_thread(send, house.listen(), "b@example.test", body=text)
        await until(lambda: house.mta.status()["deferred"], 60)
        await house.idle()
        hop.script["RCPT"] = "250 ok"
        await house.mta.queue_ask({"do": "retry", "all": True})
        await until(lambda: house.mta.status()["delivered"], 60)
        self.assertTrue(hop.messages[-1][1].endswith(text.encode()))

    async def test_what_is_not_in_memory_is_read_first(self) -> None:
        """By a thread, a window at a time: the reactor waits for no disk."""

        def cold(*_: object) -> int:
            raise BlockingIOError(errno.EAGAIN, "not in the page cache")

        def noted(fd: int, count: int, at: int) -> bytes:
            read.append(at)
            return pread(fd, count, at)

        read: list[int] = []
        pread = os.pread
        self.patch(os, "preadv", cold)
        self.patch(os, "pread", noted)
        hop = ScriptedHop(self)
        house = House(self, forward(hop.port))
        await in_thread(send, house.listen(), "b@example.test", body=PLAIN)
        await until(lambda: house.mta.status()["delivered"], 60)
        self.assertTrue(hop.messages[0][1].endswith(PLAIN.encode()))
        self.assertEqual(read, list(range(0, len(hop.messages[0][1]), body.WINDOW)))

    async def test_a_file_that_is_cut_short_is_never_a_whole_message(self) -> None:
        """The connection ends without an end mark, and the message stays."""
        hop = ScriptedHop(self)
        house = House(self, forward(hop.port))

        def data(line: str) -> str:
            for path in (house.state / "mail" / "spool").iterdir():
                os.truncate(path, 1_000_000)
            return "354 go"

        hop.script["DATA"] = data
        await in_thread(send, house.listen(), "b@example.test", body=PLAIN)
        await until(lambda: house.mta.status()["deferred"], 60)
        self.assertEqual(hop.messages, [])
        await house.idle()
        (row,) = await house.queue()
        self.assertIn("the message cannot be read", row["reply"])

    async def test_a_next_hop_that_goes_within_it(self) -> None:
        """Deferred, and the file is not held open."""
        hop = ScriptedHop(self)
        house = House(self, forward(hop.port))

        def data(line: str) -> str:
            hop.sessions[0].transport.pauseProducing()
            return "354 go"

        hop.script["DATA"] = data
        await in_thread(send, house.listen(), "b@example.test", body=PLAIN * 4)
        await until(lambda: self.sent, 60)
        hop.sessions[0].transport.abortConnection()
        await until(lambda: house.mta.status()["deferred"], 60)
        self.assertEqual(hop.messages, [])
        self.assertEqual(self.open_files(house.state / "mail" / "spool"), [])

    def open_files(self, directory: Path) -> list[str]:
        """Those below it: another test's house, in this process, may be closing still."""
        names = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                names.append(os.readlink(f"/proc/self/fd/{fd}"))
        return [name for name in names if name.startswith(str(directory))]
