"""A disk that is full, or fails, at each single write and sync: told to the client, survived, and nothing lost."""

from __future__ import annotations

import asyncio
import errno
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import product
from pathlib import Path
from random import Random
from shutil import rmtree

from twisted.trial.unittest import SynchronousTestCase

from bench.backend import make_certificate
from bench.reliability.far import Broken, Client, FarEnd
from bench.reliability.ledger import LARGE, Ledger, Parcel
from bench.reliability.plan import Kill
from bench.reliability.service import Service
from tests.support.disk import Change, Disk

REPLIES = {errno.ENOSPC: r"^452 4\.3\.1 ", errno.EIO: r"^451 4\.3\.0 "}


class Scene:
    """One service on a disk of ours, one client after the other, and the far end that counts."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.disk = Disk()
        self.ledger = Ledger(Random(7))
        self.far = FarEnd(self.ledger, lambda token: None, make_certificate(self.base))
        self.service: Service

    def play(self, part: Callable[[Scene], Awaitable[None]]) -> None:
        """Runs `part` while the service is up; at its end all that was acknowledged has arrived."""

        async def whole() -> None:
            await self.far.start()
            self.service = Service(self.base, self.disk, self.far.port)
            try:
                self.service.start()
                await self.service.ready()
                await part(self)
                self.mend()
                await self.arrived()
                assert self.service.mail_process() == self.service.mail, "the mail process has been started again"
                assert '"traceback"' not in self.service.log(), self.service.log()
            finally:
                self.service.close()
                await self.far.close()

        asyncio.run(whole())

    async def send(self, parcel: Parcel) -> str:
        """The service's last word on it: "250", or its refusal."""
        client = Client(self.service.port)
        try:
            await client.send(parcel, lambda step: None)
        except Broken as refused:
            return str(refused)
        finally:
            client.close()
        self.ledger.told(parcel)
        return "250"

    async def arrived(self) -> None:
        """Until the queue is empty; AssertionError where something that was acknowledged is nowhere, or differs."""
        await self.until(lambda: not self.service.queued())
        boxes = {self.ledger.file(octets, box, "") for box, octets in self.service.files().values()}
        self.ledger.final("end", set(), {item for item in boxes if item is not None})
        assert not [one for one in self.ledger.complaints if "doubled" not in one], self.ledger.complaints

    async def survive(self) -> None:
        """Three messages, acknowledged, and a power loss: none of them is lost."""
        for _ in range(3):
            while await self.send(self.parcel(large=False)) != "250":
                await asyncio.sleep(0.1)
        kill = Kill(point="after", scope="service", power="lost")
        self.service.kill(kill)
        await self.service.dead(kill, Random(1))
        await self.far.quiet()
        boxes = {self.ledger.file(octets, box, "") for box, octets in self.service.files().values()}
        self.ledger.stock("", self.service.queued(), {item for item in boxes if item is not None})
        self.service.start()
        await self.service.ready()

    async def until(self, fact: Callable[[], object]) -> None:
        """Waits for it; AssertionError with the queue and the log where it does not come."""
        deadline = time.monotonic() + 120
        while not fact():
            assert time.monotonic() < deadline, f"queued: {self.service.queued()}; {self.service.log()}"
            await asyncio.sleep(0.02)

    def fail(self, number: int, matches: Callable[[Change], bool]) -> list[Change]:
        """From now on such changes fail with errno `number`; they are in the list."""
        failed: list[Change] = []

        def before(change: Change) -> int | None:
            if not matches(change):
                return None
            failed.append(change)
            return number

        self.disk.before = before
        return failed

    def keeps(self, parcel: Parcel) -> bool:
        """Whether it is in the queue."""
        return self.service.holds(parcel.token, notification=False)

    def mend(self) -> None:
        self.disk.before = None

    def parcel(self, large: bool, box: bool = False) -> Parcel:
        """One of that kind."""
        while True:
            parcel = self.ledger.parcel()
            boxes = [one for one in parcel.recipients if one.endswith("@box.test")]
            if (len(parcel.text) > LARGE) == large and len(boxes) == (len(parcel.recipients) if box else 0):
                return parcel


def place(change: Change) -> str:
    """Which kind of file a change is of, and what it does."""
    path = re.sub(r"[0-9a-f]{10,}\.eml$", "*.eml", change.path.removeprefix("state/"))
    path = re.sub(r"^maildir/[^/]+(/(new|tmp))?(/.*)?$", lambda found: f"maildir/{found[2]}", path)
    return f"{change.kind} {path}"


class TestFaults(SynchronousTestCase):
    def setUp(self) -> None:
        base = Path(tempfile.mkdtemp(prefix="faults-"))
        self.addCleanup(rmtree, base, ignore_errors=True)
        self.scene = Scene(base)

    def test_each_place_that_taking_mail_writes_to(self) -> None:
        """While writes or syncs of the WAL, of the spool file or of its directory fail, a client is told 452 for a full
        disk and 451 for a broken one, never 250; when they succeed again the next message is taken."""

        async def part(scene: Scene) -> None:
            for large in (False, True):
                seen: list[Change] = []
                scene.disk.after = seen.append
                self.assertEqual(await scene.send(scene.parcel(large)), "250")
                scene.disk.after = None
                places = {place(change) for change in seen}
                taking = [name for name in places if "wal" in name or ("spool" in name and "remove" not in name)]
                wanted = {"write mail/queue.sqlite-wal", "sync mail/queue.sqlite-wal"}
                if large:
                    wanted |= {f"{kind} mail/spool/*.eml" for kind in ("create", "write", "sync")}
                    wanted |= {"sync mail/spool"}
                self.assertEqual(set(taking) & wanted, wanted)
                for name in sorted(wanted):
                    for number, reply in REPLIES.items():
                        failed = scene.fail(number, lambda change, name=name: place(change) == name)  # type: ignore[misc]
                        if name == "sync mail/queue.sqlite-wal":
                            reply = REPLIES[errno.EIO]  # SQLite does not say why a sync failed
                        self.assertRegex(await scene.send(scene.parcel(large)), reply, f"{name} {number}")
                        self.assertTrue(failed, name)
                        scene.mend()
                        self.assertEqual(await scene.send(scene.parcel(large)), "250", f"after {name} {number}")

        self.scene.play(part)

    def test_each_single_write_and_sync(self) -> None:
        """The first fails alone, then the second, and so on, of all that one message causes on its whole way: the
        client gets its 250 or a 4xx, and what got the 250 arrives."""

        async def part(scene: Scene) -> None:
            said: list[str] = []
            hit = tried = 0
            for large, box in ((False, False), (True, True)):
                self.assertEqual(await scene.send(scene.parcel(large, box)), "250")  # what is made once is there
                await scene.arrived()
                changes: list[Change] = []
                scene.disk.after = changes.append
                self.assertEqual(await scene.send(scene.parcel(large, box)), "250")
                await scene.arrived()
                scene.disk.after = None
                for at, number in product(range(len(changes)), REPLIES):
                    left = iter(range(at + 1))
                    failed = scene.fail(number, lambda change, left=left, at=at: next(left, None) == at)  # type: ignore[misc]
                    parcel = scene.parcel(large, box)
                    said.append(await scene.send(parcel))
                    await scene.until(lambda failed=failed, parcel=parcel: failed or not scene.keeps(parcel))  # type: ignore[misc]
                    scene.mend()
                    if failed and failed[0].path.endswith("-wal"):
                        self.assertEqual(await scene.send(scene.parcel(large=False)), "250")  # the queue mends itself
                    hit += len(failed)
                    tried += 1
            self.assertGreater(hit, tried * 0.7)  # how many there are varies a little with what shares a commit
            self.assertEqual([one for one in said if not re.match("250|452 4|451 4", one)], [])
            for reply in ("250", "452", "451"):
                self.assertTrue([one for one in said if one.startswith(reply)], reply)

        self.scene.play(part)

    def test_each_place_that_delivery_writes_to(self) -> None:
        """A Maildir that cannot be written, an outcome that cannot be stored: the client has its 250, the message
        waits, and is there when the disk is well again."""

        async def part(scene: Scene) -> None:
            for name in ("create maildir/tmp", "write maildir/tmp", "sync maildir/tmp", "rename maildir/tmp",
                         "sync maildir/new"):  # fmt: skip
                for number in REPLIES:
                    failed = scene.fail(number, lambda change, name=name: place(change) == name)  # type: ignore[misc]
                    parcel = scene.parcel(number == errno.EIO, box=True)
                    self.assertEqual(await scene.send(parcel), "250", name)
                    await scene.until(lambda failed=failed: failed)  # type: ignore[misc]
                    self.assertTrue(scene.keeps(parcel))
                    scene.mend()
                    await scene.arrived()

        self.scene.play(part)

    def test_a_full_disk(self) -> None:
        """Filled by mail for a next hop that is away: 452, and what was taken before leaves once there is room."""

        async def part(scene: Scene) -> None:
            scene.disk.size = scene.disk.used + 4_000_000
            said = []
            scene.fail(errno.EIO, lambda change: change.path.startswith("state/maildir"))
            for _ in range(100):
                said.append(await scene.send(scene.parcel(large=True, box=True)))
                if said[-1] != "250":
                    break
            self.assertGreater(said.count("250"), 10)
            self.assertRegex(said[-1], "^452 4.3.1 ")
            self.assertRegex(await scene.send(scene.parcel(large=False)), "^(250|452 4.3.1)")
            scene.disk.size = 1 << 32
            deadline = time.monotonic() + 120
            while (reply := await scene.send(scene.parcel(large=True))) != "250":  # until it looks again
                self.assertRegex(reply, "^452 4.3.1 ")
                self.assertLess(time.monotonic(), deadline)

        self.scene.play(part)

    def test_what_a_failed_sync_has_forgotten(self) -> None:
        """Linux says once that a sync has failed, and keeps nothing of what it was for: whatever is acknowledged after
        one is there after a power loss all the same."""

        async def part(scene: Scene) -> None:
            for at in (0, 1, 3):
                syncs = iter(range(at + 1))

                def chosen(change: Change, syncs: Iterator[int] = syncs, at: int = at) -> bool:
                    return change.kind == "sync" and change.path.endswith("-wal") and next(syncs, None) == at

                failed = scene.fail(errno.EIO, chosen)
                while not failed:
                    await scene.send(scene.parcel(large=False))
                    await asyncio.sleep(0.1)
                scene.mend()
                await scene.survive()

        self.scene.play(part)

    def test_a_failed_sync_that_the_next_process_knows_nothing_of(self) -> None:
        """The mail process ends while syncs still fail: the one after it writes nothing behind what may be lost."""

        async def part(scene: Scene) -> None:
            self.assertEqual(await scene.send(scene.parcel(large=False)), "250")
            failed = scene.fail(errno.EIO, lambda change: change.kind == "sync" and change.path.endswith("-wal"))
            while not failed:
                await scene.send(scene.parcel(large=False))
            kill = Kill(point="after", scope="mail", power="kept")
            scene.service.kill(kill)
            scene.mend()
            await scene.service.dead(kill, Random(1))
            await scene.service.ready()
            await scene.survive()

        self.scene.play(part)
