"""`users_file`: read again when it has changed, kept as it was when it is broken."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.accounts import Auth, User
from dcrouter.mail.server.users import LOOK_AGAIN, Users, UsersFile
from tests.mail.server.accounts import HASHES
from tests.support.logged import logged

FIXED = User(name="Fixed@x.example", password_hash=HASHES["secret"])


def line(name: str, password: str = "secret", extra: str = "") -> str:
    return f"- {{name: {name}, password_hash: {HASHES[password]!r}{extra}}}\n"


class UsersTests(SynchronousTestCase):
    def test_names_are_found_without_case(self) -> None:
        """And an account may send as itself where nothing else is said."""
        users = Users([FIXED, User(name="b@x.example", password_hash=HASHES["other"], may_send_as=("*@y.example",))])
        found = users.find("FIXED@X.EXAMPLE")
        assert found is not None
        self.assertEqual(found.name, "Fixed@x.example")
        self.assertTrue(found.may_send_as("fixed@X.example"))
        self.assertFalse(found.may_send_as("other@x.example"))
        other = users.find("b@x.example")
        assert other is not None
        self.assertEqual((other.may_send_as("c@y.example"), other.may_send_as("b@x.example")), (True, False))
        self.assertIsNone(users.find("c@x.example"))

    def test_an_unknown_name_is_always_as_slow_as_the_same_account(self) -> None:
        """Where hashes differ in their parameters, a name that nobody has must not stand out."""
        users = Users([FIXED, User(name="slow@x.example", password_hash=HASHES["slow"])])
        parameters = {name: users.impostor(f"{name}@x.example").split("$")[3] for name in range(40)}
        self.assertEqual(set(parameters.values()), {HASHES["secret"].split("$")[3], HASHES["slow"].split("$")[3]})
        for name, one in parameters.items():
            self.assertEqual(users.impostor(f"{name}@X.example").split("$")[3], one)


class UsersFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.path = Path(self.mktemp())
        self.reads = 0

    def in_thread(self, call: Any, *args: Any) -> Deferred[Any]:
        self.reads += 1
        return execute(call, *args)

    def opened(self) -> UsersFile:
        file = UsersFile(Auth(users=(FIXED,), users_file=self.path), self.in_thread, self.clock.seconds)
        file.open()
        return file

    def names(self, file: UsersFile) -> set[str]:
        self.clock.advance(LOOK_AGAIN)
        self.successResultOf(file.look())
        return {name for name in ("fixed@x.example", "a@x.example", "b@x.example") if file.users.find(name)}

    def test_what_changes_is_read_again(self) -> None:
        """Written over, replaced, or removed and back: it counts from the next look, beside the configuration's own."""
        self.path.write_text(line("a@x.example"))
        file = self.opened()
        self.assertEqual(self.names(file), {"fixed@x.example", "a@x.example"})
        self.path.write_text(line("a@x.example") + line("b@x.example"))
        self.assertEqual(self.names(file), {"fixed@x.example", "a@x.example", "b@x.example"})
        new = self.path.with_suffix(".new")
        new.write_text(line("b@x.example"))
        os.replace(new, self.path)
        self.assertEqual(self.names(file), {"fixed@x.example", "b@x.example"})
        self.path.write_text("[]\n")
        self.assertEqual(self.names(file), {"fixed@x.example"})

    def test_a_broken_file_changes_nothing_and_is_told_once(self) -> None:
        """Nonsense, a plain password, a file that is not there: the accounts stay, and one error says why."""
        self.path.write_text(line("a@x.example"))
        file = self.opened()
        for broken in ("- {name: [}", "- {name: b@x.example, password_hash: hunter2}\n", None):
            if broken is None:
                self.path.unlink()
            else:
                self.path.write_text(broken)
            self.assertEqual(self.names(file), {"fixed@x.example", "a@x.example"})
            self.assertEqual(self.names(file), {"fixed@x.example", "a@x.example"})
        self.path.write_text(line("b@x.example"))
        self.assertEqual(self.names(file), {"fixed@x.example", "b@x.example"})

    def test_the_log_says_what_is_wrong_and_no_secret(self) -> None:
        """One error per change, with the place in the file."""
        told = logged(self)
        self.path.write_text("- {name: b@x.example, password_hash: hunter2}\n")
        file = self.opened()
        self.names(file)
        self.names(file)
        reasons = [event["reason"] for event in told if event.get("log_level") and event["log_level"].name == "error"]
        self.assertEqual(len(reasons), 1)
        self.assertIn(f"{self.path}:1:", reasons[0])
        self.assertNotIn("hunter2", repr(told))

    def test_looks_are_seldom(self) -> None:
        """Once per LOOK_AGAIN, however many ask; without a file never."""
        self.path.write_text(line("a@x.example"))
        file = self.opened()
        self.clock.advance(LOOK_AGAIN)
        for _ in range(100):
            self.successResultOf(file.look())
        self.assertEqual(self.reads, 1)
        without = UsersFile(Auth(users=(FIXED,)), self.in_thread, self.clock.seconds)
        self.clock.advance(LOOK_AGAIN)
        self.successResultOf(without.look())
        self.assertEqual(self.reads, 1)

    def test_who_asks_meanwhile_waits_for_the_same_look(self) -> None:
        """Nobody is judged by accounts that are older than LOOK_AGAIN."""
        self.path.write_text(line("a@x.example"))
        held: list[Deferred[Any]] = []

        def later(call: Any, *args: Any) -> Deferred[Any]:
            held.append(Deferred())
            return held[-1].addCallback(lambda _: call(*args))

        file = UsersFile(Auth(users_file=self.path), later, self.clock.seconds)
        self.clock.advance(LOOK_AGAIN)
        one, two = file.look(), file.look()
        self.assertNoResult(one)
        self.assertNoResult(two)
        held[0].callback(None)
        self.successResultOf(one)
        self.successResultOf(two)
        self.assertEqual((len(held), len(file.users)), (1, 1))
