from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any

from twisted.internet import reactor
from twisted.internet.base import ReactorBase
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dcrouter.admin import access as module
from dcrouter.admin.access import AccessLogWriter
from dcrouter.admin.logfile import LogFile
from tests.support.facts import until


class TestAccessLogWriter(TestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.path = self.base / "access.log"

    async def writer(self, sample: float = 1.0, path: Path | None = None) -> AccessLogWriter:
        assert isinstance(reactor, ReactorBase)
        writer = AccessLogWriter(reactor, LogFile(path or self.path), sample)
        writer.open()
        # The reactor's threads begin with the reactor.
        await deferLater(reactor, 0)
        self.addCleanup(writer.close)
        return writer

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    async def test_lines_are_written_whole_and_in_order(self) -> None:
        """What the children send is in the file when the service has ended."""
        writer = await self.writer()
        for number in range(100):
            writer.write([{"session": f"s{number}", "peer": ["192.0.2.1", 1]}])
        writer.close()
        self.assertEqual([line["session"] for line in self.lines()], [f"s{number}" for number in range(100)])

    async def test_a_line_break_in_a_value_stays_in_its_line(self) -> None:
        """Nobody forges an access-log line by a name."""
        writer = await self.writer()
        writer.write([{"session": "s", "sni": 'a\n{"session": "forged"}\u2028'}])
        writer.close()
        self.assertEqual(len(self.lines()), 1)

    async def test_a_sample_keeps_whole_sessions(self) -> None:
        """About the asked share of sessions, and all lines of those."""
        writer = await self.writer(sample=0.5)
        for number in range(400):
            writer.write([{"session": f"session-{number}", "line": line} for line in (1, 2)])
        writer.close()
        kept = [line["session"] for line in self.lines()]
        self.assertTrue(all(kept.count(session) == 2 for session in kept))
        self.assertTrue(100 < len(set(kept)) < 300, len(set(kept)))

    async def test_what_is_too_much_is_dropped_and_counted(self) -> None:
        """While a write is under way only so much waits; the rest, and what the children dropped, is counted."""
        self.patch(module, "MAX_WAITING", 50)
        writer = await self.writer()
        writer.write([{"session": "first"}])
        writer.write([{"session": f"s{number}"} for number in range(100)], dropped=3)
        writer.close()
        self.assertEqual(writer.dropped, 103 - (len(self.lines()) - 1))
        self.assertGreater(writer.dropped, 50)

    async def test_a_full_disk_counts_too(self) -> None:
        """Lines that the disk refused are dropped lines."""
        writer = await self.writer(path=Path("/dev/full"))
        writer.write([{"session": "a"}, {"session": "b"}])
        await until(lambda: writer.dropped == 2)

    async def test_a_pipe_that_nobody_reads_keeps_no_process_alive(self) -> None:
        """What waits for its reader is given up at the end of the service."""
        self.patch(module, "LAST_WAIT", 0.2)
        os.mkfifo(self.path)
        reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        writer = await self.writer()
        writer.write([{"session": "x" * 1000} for _ in range(1000)])
        writer.write([{"session": "later"}])
        writer.close()
        self.assertTrue(writer._idle.is_set())

    async def test_after_a_reopen_lines_go_to_the_new_file(self) -> None:
        """As logrotate does it."""
        writer = await self.writer()
        writer.write([{"session": "old"}])
        moved = self.path.with_suffix(".1")
        await until(self.path.read_text)
        self.path.rename(moved)
        writer.reopen()
        writer.write([{"session": "new"}])
        writer.close()
        self.assertEqual([line["session"] for line in self.lines()], ["new"])
        self.assertIn("old", moved.read_text())
