"""A backup that is taken while mail flows holds all that was acknowledged before it and has not left since."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from shutil import rmtree

from twisted.trial.unittest import SynchronousTestCase

from bench.backend import make_certificate
from bench.reliability.far import Broken, Client, FarEnd
from bench.reliability.ledger import Item, Ledger
from bench.reliability.service import Service
from tests.support.disk import Change, Disk
from tests.support.fuse import Mounted


class TestBackup(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="backup-"))
        self.addCleanup(rmtree, self.base, ignore_errors=True)
        self.ledger = Ledger(Random(11))
        self.far = FarEnd(self.ledger, lambda token: None, make_certificate(self.base))

    def test_what_was_acknowledged_before_a_backup_is_in_it_or_has_arrived(self) -> None:
        """Taken by `dcrouter queue backup` under load, with Maildirs that cannot be written so that mail waits; copied
        to a new machine as the manual says, and started there: everything arrives, as it was sent."""
        asyncio.run(self.story())

    async def story(self) -> None:
        await self.far.start()
        old, new = self.service("old"), self.service("new")
        try:
            old.start()
            await old.ready()
            old.disk.before = _maildirs_fail
            senders = [asyncio.create_task(self.send_on(old.port)) for _ in range(4)]
            await self.until(100)
            before = set(self.ledger.acknowledged)
            backup = self.base / "backup"
            command = [sys.executable, "-m", "dcrouter.admin.cli", "queue", "backup", str(backup)]
            config = ["--config", str(self.base / "old" / "routes.yaml")]
            done = await asyncio.to_thread(subprocess.run, [*command, *config], capture_output=True, timeout=200)
            self.assertEqual(done.returncode, 0, done.stderr)
            await self.until(len(self.ledger.acknowledged) + 30)
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            old.close()
            with Mounted(new.disk, self.base / "new" / "disk"):
                (self.base / "new" / "disk" / "state").mkdir()
                copy = ["cp", "-a", str(backup), str(self.base / "new" / "disk" / "state" / "mail")]
                await asyncio.to_thread(subprocess.run, copy, check=True, timeout=200)
            self.assertGreater(len(new.queued() & before), 20)
            new.start()
            await new.ready()
            async with asyncio.timeout(200):
                while new.queued():
                    await asyncio.sleep(0.05)
            missing = before - self.ledger.arrived.keys() - self.boxes(old) - self.boxes(new)
            self.assertEqual(missing, set())
            self.assertEqual([one for one in self.ledger.complaints if "doubled" not in one], [])
        finally:
            old.close()
            new.close()
            await self.far.close()

    def service(self, name: str) -> Service:
        base = self.base / name
        base.mkdir()
        return Service(base, Disk(), self.far.port)

    async def send_on(self, port: int) -> None:
        client = Client(port)
        while True:
            parcel = self.ledger.parcel()
            try:
                await client.send(parcel, lambda step: None)
            except Broken as refused:
                raise AssertionError(f"refused: {refused}") from refused
            self.ledger.told(parcel)

    async def until(self, acknowledged: int) -> None:
        async with asyncio.timeout(200):
            while len(self.ledger.acknowledged) < acknowledged:
                await asyncio.sleep(0.01)

    def boxes(self, service: Service) -> set[Item]:
        items = (self.ledger.file(octets, box, "") for box, octets in service.files().values())
        return {item for item in items if item is not None}


def _maildirs_fail(change: Change) -> int | None:
    return errno.EIO if change.path.startswith("state/maildir") else None
