"""By strace of the whole service: the disk has a message before its client is told. Each sync is made to take 20 ms, so
that whoever does not wait for it is seen.

For each 250 after DATA, and by message:

1. every WAL frame that holds a part of it belongs to one transaction, whose commit frame has been written, and after
   that an fdatasync of the WAL has begun and ended, before the 250 is sent;
2. a spooled body has an fsync of its file, begun after its last write, and one of its directory, begun after that; both
   have ended before the first frame of its rows is written.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tempfile
from itertools import pairwise
from pathlib import Path
from random import Random
from shutil import rmtree

from twisted.trial.unittest import SynchronousTestCase

from bench.reliability.far import Client
from bench.reliability.ledger import LARGE, Ledger, Parcel
from tests.support.peers import require
from tests.support.router import RUN, Router
from tests.support.syscalls import Call, calls

TEXT = """
email:
  hostname: mail.example.test
  postmaster: postmaster@sink.test
  ports: [{port: $smtp, kind: smtp}]
  security: {max_connections_per_ip: 1000}
  queue: {min_free_disk: 1MB}
  rules:
    - name: away
      match: {recipients: ["*@sink.test", "*@box.test"]}
      action: {type: forward, targets: [{host: 127.0.0.1, port: 1}]}
"""
CALLS = "openat,write,pwrite64,writev,fsync,fdatasync,sendto,sendmsg"
FRAME_HEADER = 24  # of a WAL frame; octets 4 to 8 are not 0 in that of a commit (SQLite's file format, 4.2)


class TestOrder(SynchronousTestCase):
    def test_the_disk_has_it_before_the_client_is_told(self) -> None:
        """Twenty messages, a third of them large, over five connections at once."""
        strace = require("strace")
        base = Path(tempfile.mkdtemp(prefix="strace-"))
        self.addCleanup(rmtree, base)
        trace = base / "trace"
        command = (strace, "-f", "--seccomp-bpf", "-yy", "-xx", "-s", "16500", "-e", f"trace={CALLS}",
                   "-e", "inject=fsync,fdatasync:delay_exit=20000", "-e", "signal=none",
                   "-o", str(trace), *RUN)  # fmt: skip
        router = Router(TEXT, ports=("smtp",), command=command)
        try:
            parcels = asyncio.run(_send(router.ports["smtp"]))
            os.kill(router.pids()["parent"], signal.SIGTERM)  # strace itself would not pass it on
            assert router.process is not None
            router.process.wait(240)
        finally:
            router.close()
        story = Story(calls(trace.read_text(errors="replace").splitlines()))
        self.assertEqual(len(story.told), len(parcels))
        large = 0
        for parcel, name in parcels:
            story.check(parcel, name)
            large += name in story.spooled
        self.assertEqual(large, sum(len(parcel.text) > LARGE for parcel, _ in parcels))
        self.assertGreater(large, 2)


async def _send(port: int) -> list[tuple[Parcel, str]]:
    """What was sent, each with the name that its 250 gave it."""
    ledger = Ledger(Random(5))
    parcels = [ledger.parcel() for _ in range(100)]
    chosen = [one for one in parcels if len(one.text) > LARGE][:7]
    chosen += [one for one in parcels if len(one.text) < LARGE][:13]

    async def some(mine: list[Parcel]) -> list[tuple[Parcel, str]]:
        client = Client(port)
        sent = []
        for parcel in mine:
            reply = await client.send(parcel, lambda step: None)
            sent.append((parcel, reply.rpartition(" ")[2]))
        client.close()
        return sent

    return [one for sent in await asyncio.gather(*(some(chosen[at::5]) for at in range(5))) for one in sent]


class Story:
    """`told`: message name -> the call that sent its 250. `spooled`: message name -> the calls on its spool file."""

    def __init__(self, all_: list[Call]) -> None:
        self.told: dict[str, Call] = {}
        self.spooled: dict[str, list[Call]] = {}
        self.directory = [one for one in all_ if one.name == "fsync" and one.file.endswith("/mail/spool")]
        self.wal = [one for one in all_ if one.file.endswith("-wal") and one.name != "openat"]
        for one in all_:
            queued = re.search(rb"250 2\.0\.0 Queued as ([0-9a-f]+)\r\n", one.data)
            if queued is not None and one.name in ("sendto", "write", "writev", "sendmsg"):
                self.told[queued[1].decode()] = one
            spool = re.search(r"/mail/spool/([0-9a-f]+)\.eml$", one.file)
            if spool is not None:
                self.spooled.setdefault(spool[1], []).append(one)

    def check(self, parcel: Parcel, name: str) -> None:
        """AssertionError where anything about this message is out of order."""
        # Not the token alone: its two or three octets are in random ones, as a frame's checksums, by chance.
        token = re.compile(rb"%s(?:@load\.test| \d+ x)" % parcel.token.encode())
        frames = [one for one in self.wal if one.name == "pwrite64" and token.search(one.data)]
        assert frames, f"{parcel.token} is not in the WAL"
        told = self.told[name]
        # What is written with it is one transaction; later ones write its pages again, for others' sake.
        commit = self._commit_after(frames[0])
        frames = [one for one in frames if one.begin <= commit.begin]
        if name not in self.spooled:
            lines = set(re.findall(rb"%s (\d+) x" % parcel.token.encode(), b"".join(one.data for one in frames)))
            whole = parcel.text.count(b"\r\n") - 4
            assert len(lines) >= whole - len(frames), f"{name}: {len(lines)} of {whole} lines in its transaction"
        synced = [one for one in self.wal if one.name == "fdatasync" and one.begin > commit.end]
        assert synced and synced[0].result == 0, f"{name}: no fdatasync of the WAL"
        assert synced[0].end < told.begin, f"{name}: told before the fdatasync of the WAL ended"
        if name in self.spooled:
            self._check_spool(name, frames[0])

    def _commit_after(self, frame: Call) -> Call:
        """The last write of the transaction that a frame belongs to: the page behind the header of its commit."""
        for header, page in pairwise(one for one in self.wal if one.name == "pwrite64"):
            if page.begin >= frame.begin and len(header.data) == FRAME_HEADER and any(header.data[4:8]):
                return page
        raise AssertionError("the transaction does not end")

    def _check_spool(self, name: str, rows: Call) -> None:
        """Content and name of a spool file are durable before its rows are written."""
        written = [one for one in self.spooled[name] if one.name in ("write", "pwrite64", "writev")]
        synced = [one for one in self.spooled[name] if one.name in ("fsync", "fdatasync") and one.result == 0]
        assert written and synced, f"{name}: the spool file is not synced"
        assert synced[-1].begin > max(one.end for one in written), f"{name}: written after its fsync"
        directory = [one for one in self.directory if one.begin > synced[-1].begin and one.result == 0]
        assert directory, f"{name}: no fsync of the directory"
        assert max(synced[-1].end, directory[0].end) < rows.begin, f"{name}: its rows are older than its file"
