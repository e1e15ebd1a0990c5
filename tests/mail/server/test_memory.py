"""What a large message costs the process that takes it."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

MAIL_PROCESS = Path(__file__).resolve().parent.parent / "mailprocess.py"
MEGABYTES = 50
LINE = b"x" * 1022 + b"\r\n"


class MemoryTests(TestCase):
    def test_fifty_megabytes_of_mail_are_not_fifty_of_memory(self) -> None:
        """The highest memory use of a mail process grows by a fraction of what two such messages at once bring in."""
        state = Path(self.mktemp()).absolute()
        state.mkdir()
        process = subprocess.Popen([sys.executable, str(MAIL_PROCESS), str(state)], stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.terminate)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        port, pid = map(int, process.stdout.readline().split())
        self.send(port, 1)
        before = self.highest(pid)
        self.send(port, MEGABYTES - 1)
        grown = self.highest(pid) - before
        self.assertLess(grown, 20 * 1024, "kilobytes")

    def send(self, port: int, megabytes: int) -> None:
        """Two messages, in turns, to a next hop that is not there."""
        with Client(port) as one, Client(port) as two:
            for _ in range(megabytes):
                for client in (one, two):
                    client.sendall(LINE * 1024)
            for client in (one, two):
                client.sendall(b".\r\n")
                self.assertTrue(client.reply().startswith(b"250 2.0.0"))

    def highest(self, pid: int) -> int:
        """Kilobytes."""
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])


class Client(socket.socket):
    """One whose message has begun."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.settimeout(60)
        self.connect(("127.0.0.1", port))
        self._stream = self.makefile("rb")
        self.reply()
        for line in (b"EHLO c", b"MAIL FROM:<a@x.test>", b"RCPT TO:<b@void.test>", b"DATA"):
            self.sendall(line + b"\r\n")
            self.reply()
        self.sendall(b"Subject: x\r\n\r\n")

    def reply(self) -> bytes:
        line = self._stream.readline()
        while line[3:4] == b"-":
            line = self._stream.readline()
        return line
