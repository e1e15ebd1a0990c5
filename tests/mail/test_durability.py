"""What was acknowledged is there: after SIGKILL at any moment, and by the order of the system calls."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.peers import require

PROGRAM = Path(__file__).with_name("mailprocess.py")
TEXT = b"Subject: %d\r\n\r\n" + b"text\r\n" * 100
LARGE = b"Subject: %d\r\n\r\n" + b"text\r\n" * 40000


class Process:
    """The mail half in a process of its own; `command` may put something before it."""

    def __init__(self, state: Path, *command: str) -> None:
        self.process = subprocess.Popen(
            [*command, sys.executable, str(PROGRAM), str(state)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        self.port, self.pid = int(words[0]), int(words[1])

    def end(self, how: int) -> None:
        os.kill(self.pid, how)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def send(port: int, number: int, text: bytes, recipient: bytes = b"b@local.test") -> None:
    """One message over a connection of its own; returns once it is acknowledged, OSError or ValueError if it is not."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        stream = connection.makefile("rb")
        commands = b"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<%s>\r\nDATA\r\n" % recipient
        connection.sendall(commands)
        while not (line := stream.readline()).startswith(b"354"):
            if not line or line[:1] in b"45":
                raise ValueError(line)
        connection.sendall(text % number + b".\r\n")
        if not stream.readline().startswith(b"250"):
            raise ValueError("not acknowledged")


def subjects(state: Path) -> list[int]:
    """The numbers of all mails in the Maildir, in no order."""
    new = state / "maildir" / "b@local.test" / "new"
    found = [re.search(rb"^Subject: (\d+)$", path.read_bytes(), re.MULTILINE) for path in new.glob("*")]
    return [int(match[1]) for match in found if match is not None]


class KillTests(SynchronousTestCase):
    def test_acknowledged_mail_survives_kills(self) -> None:
        """Killed eight times under load: each acknowledged message is delivered, small or large, and at most those
        that were in the air at a kill come as well."""
        state = Path(self.mktemp()).absolute()
        state.mkdir(parents=True)
        acknowledged: set[int] = set()
        tried = 0
        for round_ in range(8):
            process = Process(state)
            stop = threading.Event()
            lock = threading.Lock()

            def load(port: int = process.port, stop: threading.Event = stop, lock: threading.Lock = lock) -> None:
                nonlocal tried
                while not stop.is_set():
                    with lock:
                        tried += 1
                        number = tried
                    try:
                        send(port, number, LARGE if number % 7 == 0 else TEXT)
                    except (OSError, ValueError):
                        return
                    with lock:
                        acknowledged.add(number)

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            goal = len(acknowledged) + 25 + 10 * round_
            deadline = time.monotonic() + 30
            while len(acknowledged) < goal and time.monotonic() < deadline:
                time.sleep(0.001)
            process.end(signal.SIGKILL)
            stop.set()
            for thread in threads:
                thread.join(30)
        process = Process(state)
        deadline = time.monotonic() + 30
        spool = state / "mail" / "spool"
        while (any(spool.iterdir()) or not acknowledged <= set(subjects(state))) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.end(signal.SIGTERM)
        found = subjects(state)
        self.assertEqual(acknowledged - set(found), set())
        self.assertGreaterEqual(len(acknowledged), 200)
        self.assertEqual(len(found), len(set(found)))
        self.assertLessEqual(len(set(found) - acknowledged), 8 * 4)
        self.assertEqual(list(spool.iterdir()), [])


class OrderTests(SynchronousTestCase):
    def test_the_disk_has_it_before_the_client_is_told(self) -> None:
        """By strace: an fdatasync of the WAL between the message and each 250; for a large one an fsync of its file
        and then of its directory before that."""
        strace = require("strace")
        state = Path(self.mktemp()).absolute()
        state.mkdir(parents=True)
        trace = state / "trace"
        process = Process(
            state, strace, "-f", "-y", "-s", "400", "-o", str(trace),
            "-e", "trace=fsync,fdatasync,sendto,recvfrom,pwrite64,write",
        )  # fmt: skip
        try:
            send(process.port, 1, TEXT, b"b@void.test")
            send(process.port, 2, LARGE, b"b@void.test")
        finally:
            process.end(signal.SIGTERM)
        story = " ".join(filter(None, map(_kind, trace.read_text(errors="replace").splitlines())))
        self.assertRegex(story, r"go (wal )+told .*go (wal )*spool-file (wal )*spool-dir (wal )+told")


def _kind(line: str) -> str:
    if "354 End" in line:
        return "go"
    if "250 2.0.0 Queued" in line:
        return "told"
    if "sync(" in line:
        if "-wal" in line:
            return "wal"
        if ".eml" in line:
            return "spool-file"
        if line.rstrip().rstrip(")").find("/spool>") >= 0:
            return "spool-dir"
    return ""
