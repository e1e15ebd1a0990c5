"""Kills at every point of a message's life, and power losses with them: `bench.reliability`, in small."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from shutil import rmtree

from twisted.trial.unittest import SynchronousTestCase

from bench.reliability.plan import Figures, Kill, Progress, outstanding
from bench.reliability.rounds import Batch, batch
from tests.support.disk import Disk, Node
from tests.support.fuse import Mounted

KILLS = 5
"""At each point; python -m bench.reliability does 200."""

BATCHES = 6
"""Within which all kills must have struck: one that came too late, or never to its point, is done again in the next."""


class TestKills(SynchronousTestCase):
    """Five kills at each point, of the whole service and of the mail process, while four clients send."""

    def kill(self, *points: str) -> None:
        progress = Progress(seed=1)
        for number in range(BATCHES):
            left = outstanding(points, KILLS, progress)
            if not left:
                break
            figures, _, complaints = asyncio.run(batch(left, Random(number)))
            self.assertEqual(complaints, [])
            progress.add(figures)
            progress.batches += 1
        for point in points:
            self.assertEqual(progress.total((f"{point}/service", f"{point}/mail")).kills, KILLS, point)
        self.assertTrue(progress.total().good)
        self.assertGreater(progress.total().acknowledged, 100)

    def test_while_a_message_comes(self) -> None:
        """After 354, in the body, and between the final dot and the 250: what was acknowledged is there."""
        self.kill("data", "body", "before")

    def test_once_it_is_kept(self) -> None:
        """After its commit, after its 250, and while the service starts again."""
        self.kill("commit", "after", "start")

    def test_while_it_leaves(self) -> None:
        """After the 250 of the far end, in the commit that settles it, and in the one that makes its notification: it
        comes again only where the answer was not yet stored."""
        self.kill("remote", "settle", "dsn")


class LyingDisk(Disk):
    """Says that it has synced, and has not."""

    def sync(self, node: Node) -> None:
        self._done("sync", node.path)


class TestTeeth(SynchronousTestCase):
    """The harness sees what it is there for."""

    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="teeth-"))
        self.addCleanup(rmtree, self.base, ignore_errors=True)

    def rows_after_a_power_loss(self, synchronous: str) -> int:
        """How many of ten committed rows are left in a database with this setting."""
        disk = Disk()
        script = (
            "import os, sqlite3, sys\n"
            "for made in ('.',): fd = os.open(made, os.O_RDONLY)\n"
            "c = sqlite3.connect('db', isolation_level=None)\n"
            "c.execute('PRAGMA journal_mode = WAL'); c.execute('CREATE TABLE t (a)'); os.fsync(fd)\n"
            f"c.execute('PRAGMA synchronous = {synchronous}')\n"
            "for number in range(10): c.execute('INSERT INTO t VALUES (?)', (number,))\n"
            "os._exit(0)\n"
        )
        with Mounted(disk, self.base):
            subprocess.run([sys.executable, "-c", script], cwd=self.base, check=True, timeout=240)
            disk.off()
        disk.lose()
        with Mounted(disk, self.base):
            connection = sqlite3.connect(self.base / "db")
            (count,) = connection.execute("SELECT count(*) FROM t").fetchone()
            connection.close()
        return int(count)

    def test_a_database_that_syncs_keeps_its_rows_and_another_loses_them(self) -> None:
        """FULL keeps all ten over a power loss, OFF none of them; a kill alone would have shown no difference."""
        self.assertEqual(self.rows_after_a_power_loss("FULL"), 10)
        self.assertEqual(self.rows_after_a_power_loss("OFF"), 0)

    def figures(self, disk: Disk, kills: Sequence[Kill]) -> Figures:
        one = Batch(self.base, Random(3), refusals=False)
        one.disk = disk
        asyncio.run(one.run(kills))
        return Progress(seed=1, figures=one.ledger.figures).total()

    def test_mail_on_a_disk_that_lies_is_missed(self) -> None:
        """Were there no sync before the 250, the counter would say that mail is lost."""
        found = self.figures(LyingDisk(), [Kill(point="after", scope="service", power="lost")])
        self.assertEqual(found.kills, 1)
        self.assertGreater(found.lost, 0)
