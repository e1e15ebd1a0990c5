"""The whole service as it is installed, with its state on a disk that forgets: started, killed, looked into.

Only `state_dir` is on that disk; the log, the admin socket and the configuration are in `base`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from bench.process import command, tree
from bench.reliability.ledger import REFUSED, Item
from bench.reliability.plan import Kill
from tests.support.disk import Disk
from tests.support.fuse import Mounted
from tests.support.ports import Reserved

_TEXT = """version: 1
state_dir: {state}
listen: ["127.0.0.1"]
admin: {{socket: {base}/admin.sock}}
log: {{level: warn}}
email:
  hostname: mail.example.test
  postmaster: postmaster@sink.test
  ports: [{{port: {port}, kind: smtp}}]
  trusted: [127.0.0.1/32]
  security: {{max_connections_per_ip: 1000}}
  rules:
    - name: sink
      match: {{recipients: ["*@sink.test", "*@load.test"]}}
      action: {{type: forward, targets: [{{host: 127.0.0.1, port: {far}}}]}}
    - {{name: box, match: {{recipients: ["*@box.test"]}}, action: {{type: deliver, maildir: "maildir/{{recipient}}"}}}}
  queue: {{min_free_disk: 1MB, retry: {{base: 200ms, max: 1s}}}}
"""
_SETPRIV = shutil.which("setpriv")
_TIED = (_SETPRIV, "--pdeathsig", "KILL") if _SETPRIV else ()
"""A run that is killed takes its service along."""
_WAL_HEADER = 32
_JOINED = " ON r.message = m.id"
_PATIENCE = 120.0


class NotUp(Exception):
    """The service does not come up again; the text is the end of its log."""


class Service:
    """Start, kill and revive it. `mail`: the process id of the mail process, as of the last `ready`."""

    def __init__(self, base: Path, disk: Disk, far: int) -> None:
        self.disk = disk
        self.mail = 0
        self.starts = 0
        self._base = base
        self._reserved = Reserved()
        self.port = self._reserved.port
        self._at = base / "disk"
        self._at.mkdir()
        self._mounted: Mounted | None = None
        self._process: subprocess.Popen[bytes] | None = None
        state = self._at / "state"
        (base / "routes.yaml").write_text(_TEXT.format(state=state, base=base, port=self.port, far=far))

    def start(self) -> None:
        """Mounts the disk and starts the service; `ready` says when it is."""
        if self._mounted is None:
            self._mounted = Mounted(self.disk, self._at)
        self.starts += 1
        with (self._base / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_TIED, sys.executable, "-P", "-m", "dcrouter.tap", "--config", "routes.yaml"],  # as `dcrouter run`
                cwd=self._base, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    async def ready(self) -> None:
        """Until a mail session gets its greeting."""
        async with asyncio.timeout(_PATIENCE):
            while not await self._greeted():
                assert self._process is not None
                if self._process.poll() is not None:
                    raise NotUp(f"exit {self._process.returncode}: {self.log()}")
                await asyncio.sleep(0.01)
        self.mail = self.mail_process() or 0

    def log(self) -> str:
        return (self._base / "log").read_text(errors="replace")[-3000:]

    async def _greeted(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            return (await reader.readline()).startswith(b"220")
        except OSError:
            return False
        finally:
            writer.close()

    def mail_process(self) -> int | None:
        assert self._process is not None
        return next((pid for pid, _ in tree(self._process.pid) if command(pid)[-1:] == ["mail"]), None)

    def kill(self, kill: Kill) -> None:
        """SIGKILL, and at the same moment the power, where it goes as well. Any thread; does not wait."""
        assert self._process is not None
        if kill.scope == "mail":
            _kill(self.mail)
            return
        if kill.power != "kept":
            self.disk.off()
        os.killpg(self._process.pid, signal.SIGKILL)

    async def dead(self, kill: Kill, random: Random) -> None:
        """Until what was killed is gone; then the disk is as it is found afterwards."""
        assert self._process is not None
        if kill.scope == "mail":
            await _gone([self.mail])
            return
        self._process.wait(_PATIENCE)
        await _gone(_group(self._process.pid))
        if kill.power != "kept":
            self._unmount()
            self.disk.lose(random if kill.power == "some" else None)

    def stop(self) -> None:
        """Ends it in order, and unmounts; idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(_PATIENCE)
        self._process = None
        self._unmount()

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self.stop()
        self._reserved.close()

    def _unmount(self) -> None:
        mounted, self._mounted = self._mounted, None
        if mounted is not None:
            mounted.close()

    # ------------------------------------------------------------------ what is kept

    def queued(self) -> set[Item]:
        """What the store holds."""
        items = set()
        for sender, address in self._rows("SELECT m.sender, r.address FROM message AS m JOIN recipient AS r" + _JOINED):
            items.add((_token(sender or address), address if sender else REFUSED))
        return items

    def holds(self, token: str, *, notification: bool) -> bool:
        """Whether it holds the message with this token, or a notification for its sender. Any thread."""
        if not notification:
            return (f"{token}@load.test",) in self._rows("SELECT sender FROM message")
        found = self._rows("SELECT r.address FROM message AS m JOIN recipient AS r" + _JOINED + " WHERE m.sender = ''")
        return (f"{token}@load.test",) in found

    def why_queued(self) -> list[str]:
        """A line for each recipient that the store holds: where it stands, and what was last said to it."""
        columns = "m.sender, r.address, r.state, r.attempts, round(r.due - strftime('%s'), 1), m.size, r.reply"
        rows = self._rows(f"SELECT {columns} FROM message AS m JOIN recipient AS r" + _JOINED)
        return ["{} to {}: state {}, {} attempts, due in {} s, {} octets: {}".format(*row) for row in rows]

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        """Of a copy of the database as it is now, durable or not, which is read as the next start will read it."""
        with tempfile.TemporaryDirectory(prefix="store-") as name:
            copy = Path(name) / "queue.sqlite"
            contents = self._contents()
            for end, content in contents.items():
                copy.with_name(copy.name + end).write_bytes(content)
            connection = sqlite3.connect(copy)
            try:
                if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'recipient'").fetchone():
                    return []
                return connection.execute(query).fetchall()
            finally:
                connection.close()

    def _contents(self) -> dict[str, bytes]:
        """The database and its WAL. What a checkpoint moves while they are read is in both, unless the WAL has begun
        anew meanwhile: then its header is another."""
        while True:
            before = self._read("-wal")
            contents = {"": self._read(""), "-wal": self._read("-wal")}
            if before[:_WAL_HEADER] == contents["-wal"][:_WAL_HEADER]:
                return contents

    def _read(self, end: str) -> bytes:
        try:
            return self.disk.read(f"state/mail/queue.sqlite{end}")
        except FileNotFoundError:
            return b""

    def files(self) -> dict[str, tuple[str, bytes]]:
        """Every file in a Maildir: name -> (mailbox, content)."""
        found = {}
        with contextlib.suppress(FileNotFoundError):
            for box, folders in list((self.disk.find("state/maildir").names or {}).items()):
                new = (folders.names or {}).get("new")
                for name, node in list((new.names or {}).items()) if new is not None else ():
                    found[name] = (box, bytes(node.content or b""))
        return found


def _token(address: str) -> str:
    return address.partition("@")[0]


def _group(number: int) -> list[int]:
    """The processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(ProcessLookupError):
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == number:
                found.append(int(entry.name))
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


async def _gone(pids: list[int]) -> None:
    async with asyncio.timeout(_PATIENCE):
        for pid in pids:
            while _lives(pid):
                await asyncio.sleep(0.002)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            ended = stat.read().rpartition(")")[2].split()[0] == "Z"
        return not ended or len(os.listdir(f"/proc/{pid}/task")) > 1  # its other threads may take longer
    except (FileNotFoundError, ProcessLookupError):
        return False
