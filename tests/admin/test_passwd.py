"""`dcrouter passwd`, on a terminal and in a pipe."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.lists import load_users
from dcrouter.mail.server.passwords import verify
from dcrouter.wire.scram import ITERATIONS, Verifier

COMMAND = (sys.executable, "-m", "dcrouter.admin.cli", "passwd")


def piped(octets: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *arguments], input=octets, capture_output=True, timeout=240, check=False)


def typed(*lines: bytes) -> tuple[int, bytes]:
    """(exit status, all that the terminal showed) when these lines are typed, each after a prompt."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, COMMAND)
    shown = b""
    waiting = list(lines)
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # the other end has gone
                break
            shown += piece
            if waiting and shown.endswith(b": "):
                os.write(terminal, waiting.pop(0) + b"\n")
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


class PasswdTests(SynchronousTestCase):
    def test_a_line_of_standard_input(self) -> None:
        """The hash is of the line without its end, and no other; salted, so that no two are alike."""
        first, second = (piped(end) for end in (b"p \xc3\xa4ss\r\nmore\n", b"p \xc3\xa4ss"))
        self.assertEqual((first.returncode, first.stderr), (0, b""))
        hashed, verifier = first.stdout.decode().splitlines()
        made = Verifier.parse(verifier)
        self.assertEqual(
            made, Verifier.make("p \u00e4ss", iterations=made.iterations, salt=made.salt), "and so is the verifier"
        )
        self.assertTrue(hashed.startswith("$argon2id$v=19$"))
        self.assertTrue(verify(hashed, "p \u00e4ss"))
        self.assertFalse(verify(hashed, "p \u00e4ss\r"))
        self.assertNotEqual(first.stdout, second.stdout)

    def test_the_line_for_the_file_is_ready(self) -> None:
        """It is all that is printed, to be added to `users_file`, for any name; one that is no address is told to need
        may_send_as.
        """
        for name in ("alice@example.com", "o'brien@example.com", 'a "b" #: {c}'):
            result = piped(b"secret\n", name)
            (line,) = result.stdout.splitlines()
            self.assertEqual(b"may_send_as" in result.stderr, "@" not in name)
            if "@" not in name:
                line = line.removesuffix(b"}") + b", may_send_as: ['a@x.example']}"
            file = Path(self.mktemp())
            file.write_bytes(line + b"\n")
            (user,) = load_users(file)
            self.assertEqual(user.name, name)
            self.assertTrue(verify(user.password_hash, "secret"))
            self.assertEqual(Verifier.parse(user.scram or "").iterations, ITERATIONS)

    def test_a_terminal_asks_twice_and_shows_nothing(self) -> None:
        """Without echo; two that differ make no hash."""
        status, shown = typed(b"secret", b"secret")
        self.assertEqual(status, 0, shown)
        self.assertNotIn(b"secret", shown)
        self.assertTrue(verify(shown.decode().split()[-2], "secret"))
        status, shown = typed(b"secret", b"another")
        self.assertEqual(status, 1)
        self.assertIn(b"dcrouter: the passwords differ", shown)
        self.assertNotIn(b"$argon2id", shown)

    def test_what_is_no_password_is_told(self) -> None:
        """Empty, too long, with control characters, not UTF-8: one line, status 1, and not the password itself."""
        for octets in (b"", b"\n", b"x" * 1025, b"x" * 100_000, b"sec\tret\n", b"sec\0ret\n", b"sec\xff\n"):
            result = piped(octets)
            self.assertEqual((result.returncode, result.stdout), (1, b""))
            self.assertRegex(result.stderr, rb"\Adcrouter: the password [^\n]*\n\Z")
            self.assertNotIn(b"sec", result.stderr)

    def test_a_password_is_never_an_argument(self) -> None:
        """A second argument is wrong usage."""
        self.assertEqual(piped(b"", "alice", "secret").returncode, 2)
