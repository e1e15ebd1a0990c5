"""Who exists by a file, that changes while mail comes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.mail.server import known, watched
from dcrouter.mail.server.known import KnownRecipients

NOW = 1_000_000.0


class KnownTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.clock = Clock()
        self.looks = 0
        self.known = KnownRecipients(self.path, self.in_thread, self.clock.seconds, lambda: NOW + self.clock.seconds())

    def in_thread(self, call: Callable[[], Any]) -> Deferred[Any]:
        self.looks += 1
        return maybeDeferred(call)

    def write(self, text: str, age: float = 60.0) -> None:
        """A new file in its place, last changed `age` seconds ago."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        at = NOW + self.clock.seconds() - age
        os.utime(new, (at, at))
        new.replace(self.path)

    def has(self, address: str) -> bool | None:
        answer = self.known.has(address)
        return self.successResultOf(answer) if isinstance(answer, Deferred) else answer

    def test_what_a_file_says(self) -> None:
        """An address a line, or a whole domain; comments, blank lines, any case, line ends of other systems."""
        self.write("\ufeff# people\r\nJoe@Example.test\r\n\r\n  ann@example.test # since May\n*@all.test")
        for address in ("joe@example.test", "ANN@example.test", "who@ALL.test", "joe+x@example.test"):
            self.assertIs(self.has(address), True, address)
        for address in ("people@example.test", "who@example.test"):
            self.assertIs(self.has(address), False, address)

    def test_a_change_is_seen(self) -> None:
        """By the first question after it, if a second has passed; until then the file is left alone."""
        self.write("joe@a.test\n")
        self.assertEqual((self.has("joe@a.test"), self.has("ann@a.test"), self.looks), (True, False, 1))
        self.write("ann@a.test\n")
        self.assertEqual((self.has("ann@a.test"), self.looks), (False, 1))
        self.clock.advance(1.5)
        self.assertEqual((self.has("ann@a.test"), self.has("joe@a.test"), self.looks), (True, False, 2))

    def test_a_file_that_is_being_written_is_not_believed(self) -> None:
        """Who is only in the new one is not refused meanwhile; who was in the old one is still taken."""
        self.write("joe@a.test\n")
        self.assertIs(self.has("joe@a.test"), True)
        self.clock.advance(2)
        self.write("bob@a.test\n", age=0.1)
        self.assertEqual((self.has("joe@a.test"), self.has("bob@a.test")), (True, None))
        self.clock.advance(2)
        self.assertEqual((self.has("joe@a.test"), self.has("bob@a.test")), (False, True))

    def test_a_file_that_changes_while_it_is_read_is_read_again(self) -> None:
        """What was read of it does not count."""
        self.write("joe@a.test\n")
        self.has("joe@a.test")
        self.clock.advance(2)
        self.write("bob@a.test\n")
        before = self.known._mark
        times = iter([NOW, NOW])

        def now() -> float:
            self.write("eve@a.test\n", age=50)
            return next(times)

        seen = watched.look(self.path, known.read, before, now)
        self.assertEqual((seen.pending, seen.value), (True, None))

    def test_a_file_that_cannot_be_used_leaves_the_old_list(self) -> None:
        """Gone, empty, broken, a directory, too large: one error each, however often is asked."""
        self.patch(known, "MOST_BYTES", 1000)

        def directory() -> None:
            self.path.unlink()
            self.path.mkdir()

        for spoil, words in (
            (lambda: self.path.unlink(), "cannot be read: no such file"),
            (lambda: self.write("# nobody\n"), "lists nobody"),
            (lambda: self.write("joe@a.test\nno address\n"), ":2: "),
            (lambda: self.write("re:.*@a\\.test\n"), "no regular expressions"),
            (lambda: self.write("*@*\n"), "every domain"),
            (lambda: self.write("a@b.test\n" * 200), "is larger than"),
            (lambda: self.path.write_bytes(b"joe@a.test\n# Se\xfcor\n"), f"{self.path}:2:5: byte 0xfc is not UTF-8"),
            (directory, "is not a file"),
        ):
            if self.path.is_dir():
                self.path.rmdir()
            self.write("joe@a.test\n")
            self.clock.advance(2)
            self.assertIs(self.has("joe@a.test"), True)
            spoil()
            with capturedLogs() as logs:
                for _ in range(4):
                    self.clock.advance(2)
                    self.assertEqual((self.has("joe@a.test"), self.has("ann@a.test")), (True, False), words)
            (event,) = [event for event in logs if event["log_level"] is LogLevel.error]
            self.assertIn(words, event["problem"])
            self.assertIn("stays in force", event["instead"])

    def test_without_a_list_nothing_can_be_told(self) -> None:
        """A file that was never there refuses nobody for good; once it is there, it holds."""
        self.assertIsNone(self.has("joe@a.test"))
        self.clock.advance(2)
        self.write("joe@a.test\n")
        self.assertIs(self.has("joe@a.test"), True)

    def test_all_who_ask_wait_for_one_look(self) -> None:
        """And get the same list."""
        self.write("joe@a.test\n")
        gate: Deferred[None] = Deferred()
        calls: list[Callable[[], Any]] = []

        def in_thread(call: Callable[[], Any]) -> Deferred[Any]:
            calls.append(call)
            return gate.addCallback(lambda _: call())

        slow = KnownRecipients(self.path, in_thread, self.clock.seconds, lambda: NOW)
        answers = [slow.has(address) for address in ("joe@a.test", "ann@a.test")]
        gate.callback(None)
        answered = [answer for answer in answers if isinstance(answer, Deferred)]
        self.assertEqual([self.successResultOf(answer) for answer in answered], [True, False])
        self.assertEqual(len(calls), 1)
