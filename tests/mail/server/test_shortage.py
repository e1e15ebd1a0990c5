"""Memory that runs out: nothing new is begun, and what has begun goes on."""

from __future__ import annotations

import socket
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcrouter.mail.server.memory import LOOK, Memory
from tests.mail.house import House, dialogue, in_thread

MB = 1 << 20


class Host:
    """The files in which a kernel tells of memory, under `root`."""

    def __init__(self, root: Path, total: int = 4096 * MB) -> None:
        self.root = root
        self.total = total
        self.say(total)

    def say(self, free: int) -> None:
        self.write("proc/meminfo", f"MemTotal: {self.total >> 10} kB\nMemFree: 5 kB\nMemAvailable: {free >> 10} kB\n")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class MemoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.host = Host(Path(self.mktemp()))

    def memory(self) -> Memory:
        return Memory(self.clock.seconds, self.host.root)

    def short(self, memory: Memory) -> bool:
        self.clock.advance(LOOK)
        return memory.short

    def test_it_is_short_until_there_is_clearly_more(self) -> None:
        """Told once as an error, and once when it is over; between two looks the answer stays."""
        memory = self.memory()
        self.assertEqual((memory.total, memory.short), (4096 * MB, False))
        self.host.say(100 * MB)
        self.assertFalse(memory.short)
        self.assertTrue(self.short(memory))
        self.host.say(140 * MB)
        self.assertTrue(self.short(memory))
        self.host.say(200 * MB)
        self.assertFalse(self.short(memory))

    def test_groups_bound_it_too(self) -> None:
        """cgroup v2 and v1; what can be dropped of the cache is free."""
        for lines, folder, names in (
            ("0::/a/b\n", "sys/fs/cgroup/a/b", ("memory.max", "memory.current", "inactive_file")),
            (
                "4:memory:/x\n0::/\n",
                "sys/fs/cgroup/memory/x",
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            ),
        ):
            self.host.write("proc/self/cgroup", lines)
            self.host.write(f"{folder}/{names[0]}", f"{512 * MB}\n")
            self.host.write(f"{folder}/{names[1]}", f"{500 * MB}\n")
            self.host.write(f"{folder}/memory.stat", f"anon 1\n{names[2]} {300 * MB}\n")
            memory = self.memory()
            self.assertEqual((memory.total, memory.short), (512 * MB, False))
            self.host.write(f"{folder}/memory.stat", f"{names[2]} {10 * MB}\n")
            self.assertTrue(self.short(memory))

    def test_where_nothing_is_told_there_is_plenty(self) -> None:
        """No limit, no files, or nonsense in them."""
        self.host.write("proc/self/cgroup", "0::/a\nnonsense\n")
        self.host.write("sys/fs/cgroup/a/memory.max", "max\n")
        self.assertFalse(self.memory().short)
        self.assertFalse(Memory(self.clock.seconds, self.host.root / "nowhere").short)


class LessMailTests(TestCase):
    async def test_nothing_new_is_begun(self) -> None:
        """421 for who comes, 452 for MAIL of who is here; when there is memory again, all is as before."""
        house = House(self)
        port = house.listen()
        host = Host(Path(self.mktemp()))
        memory = house.mta._memory
        memory._proc, memory._groups = host.root / "proc", host.root / "none"

        def left(octets: int) -> None:
            memory._looked = float("-inf")
            host.say(octets)

        with socket.create_connection(("127.0.0.1", port), timeout=240) as here:

            def say(line: bytes) -> bytes:
                here.sendall(line + b"\r\n")
                return here.recv(1000)

            await in_thread(here.recv, 1000)
            await in_thread(say, b"EHLO c")
            left(1 * MB)
            said = await in_thread(dialogue, port)
            self.assertEqual(said, [b"421 4.3.2 Too many connections, try again later"])
            answer = await in_thread(say, b"MAIL FROM:<a@x.test>")
            self.assertEqual(answer[:9], b"452 4.3.1")
            left(4000 * MB)
            answer = await in_thread(say, b"MAIL FROM:<a@x.test>")
            self.assertEqual(answer[:4], b"250 ")
        said = await in_thread(dialogue, port)
        self.assertEqual(said[0][:4], b"220 ")
