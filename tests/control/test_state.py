from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import rmtree
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.control import state as module
from dcrouter.control.privileges import Account
from dcrouter.control.state import SCHEMA, StateDirectory
from dcrouter.errors import StartError

HOLD = """
import sys
from pathlib import Path
from dcrouter.control.state import StateDirectory
directory = StateDirectory(Path(sys.argv[1]))
directory.open()
print("held", flush=True)
sys.stdin.read()
"""
NOBODY = Account(name="nobody", uid=65534, gid=65534, groups=(65534,))


class TestStateDirectory(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.path = self.base / "deep" / "state"

    def opened(self) -> StateDirectory:
        directory = StateDirectory(self.path)
        directory.open()
        self.addCleanup(directory.close)
        return directory

    def refused(self) -> str:
        with self.assertRaises(StartError) as caught:
            StateDirectory(self.path).open()
        text = str(caught.exception)
        self.assertNotIn("\n", text)
        return text

    def test_it_is_made_for_its_owner_only(self) -> None:
        """The directory is created, 0700, with the pid in the lock and the schema's version."""
        self.opened()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)
        self.assertEqual((self.path / "lock").read_text(), f"{os.getpid()}\n")
        self.assertEqual((self.path / "version").read_text(), f"{SCHEMA}\n")

    def test_one_that_others_can_read_is_closed_to_them(self) -> None:
        """An existing directory becomes 0700."""
        self.path.mkdir(parents=True)
        self.path.chmod(0o755)
        self.opened()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)

    def test_a_second_instance_is_told_who_holds_it(self) -> None:
        """Another process's lock refuses the start with one line that has its pid; when it ends, the way is free."""
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(self.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None and holder.stdin is not None
            self.assertEqual(holder.stdout.readline(), "held\n")
            self.assertIn(f"pid {holder.pid};", self.refused())
            holder.stdin.close()
            holder.wait(240)
        self.opened()

    def test_the_children_of_a_dead_instance_keep_it_for_a_while(self) -> None:
        """A lock whose writer is gone is waited for, and refused when whoever inherited it does not end."""
        self.patch(module, "ORPHANS", 0.2)
        first = self.opened()
        kept = os.dup(first.lock)
        self.addCleanup(os.close, kept)
        first.close()
        (self.path / "lock").write_text("999999999\n")
        self.assertIn("what is left of a dcrouter that has ended (pid 999999999): pid ", text := self.refused())
        self.assertIn(f"pid {os.getpid()} (", text)
        self.assertIn(f"`kill -9 {os.getpid()}`", text)

    def test_a_dead_holder_is_no_living_one(self) -> None:
        """A zombie, or a process that has got the pid since, does not count as the instance that took the lock."""
        self.patch(module, "ORPHANS", 0.2)
        first = self.opened()
        kept = os.dup(first.lock)
        self.addCleanup(os.close, kept)
        first.close()
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
            (self.path / "lock").write_text(f"{other.pid}\n")
            self.assertIn(f"has ended (pid {other.pid}): pid {os.getpid()} (", self.refused())
            assert other.stdin is not None
            other.stdin.close()
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
            self.assertIn(f"has ended (pid {other.pid}): pid {os.getpid()} (", self.refused())

    def test_a_newer_schema_is_refused(self) -> None:
        """What a newer dcrouter wrote is not touched."""
        self.opened().close()
        (self.path / "version").write_text("99\n")
        self.assertIn("schema version 99, written by a newer dcrouter", self.refused())
        self.assertEqual((self.path / "version").read_text(), "99\n")

    def test_the_version_is_not_written_through_a_link(self) -> None:
        """The directory is its user's, and root makes the file: it must not make another one elsewhere."""
        self.path.mkdir(parents=True)
        os.symlink(self.base / "elsewhere", self.path / "version")
        self.opened()
        self.assertFalse((self.base / "elsewhere").exists())
        self.assertFalse((self.path / "version").is_symlink())

    def test_a_start_that_was_killed_while_it_wrote_the_version_does_no_harm(self) -> None:
        """Its half-written file is no version, and in nobody's way."""
        self.path.mkdir(parents=True)
        (self.path / "version.new").write_text("")
        self.opened()
        self.assertEqual((self.path / "version").read_text(), f"{SCHEMA}\n")
        self.assertFalse((self.path / "version.new").exists())

    def test_a_version_that_is_no_number_is_refused(self) -> None:
        """A damaged version file is not guessed at."""
        self.opened().close()
        (self.path / "version").write_bytes(b"\xff?")
        self.assertIn("does not hold a version number", self.refused())

    def test_a_refusal_leaves_the_lock_free(self) -> None:
        """After a refused start another one meets only its own trouble."""
        self.opened().close()
        (self.path / "version").write_text("99\n")
        self.refused()
        (self.path / "version").write_text(f"{SCHEMA}\n")
        self.opened()

    def test_a_file_in_its_place_is_one_line(self) -> None:
        """state_dir that is a file is told as that."""
        self.path.parent.mkdir(parents=True)
        self.path.write_text("")
        self.assertIn("is not a directory", self.refused())

    def test_a_directory_of_others_is_not_taken(self) -> None:
        """By root, who could close /var/lib to everybody, and give all of it away. What was restored there is ours."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        self.path.mkdir(parents=True)
        self.path.chmod(0o755)
        for name in ("apt", "dpkg", "mail", "misc", "python"):
            (self.path / name).mkdir()
        self.assertIn("state has other things in it (apt, dpkg, misc, ...), and would be closed", self.refused())
        self.path.chmod(0o700)
        with self.assertRaises(StartError):
            StateDirectory(self.path).open(NOBODY)
        self.assertEqual((self.path.stat().st_uid, (self.path / "apt").stat().st_uid), (0, 0))
        for name in ("apt", "dpkg", "misc", "python"):
            (self.path / name).rmdir()
        self.path.chmod(0o755)
        directory = StateDirectory(self.path)
        directory.open(NOBODY)
        self.addCleanup(directory.close)
        self.assertEqual((self.path / "mail").stat().st_uid, NOBODY.uid)

    def test_the_whole_of_it_is_handed_to_the_user_once(self) -> None:
        """What root left in it belongs to the `user` afterwards, but nothing that is linked elsewhere."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        self.opened().close()
        outside = self.base / "outside"
        outside.write_text("")
        (self.path / "tls").mkdir()
        (self.path / "tls" / "ca.key").write_text("")
        os.link(outside, self.path / "hard")
        os.symlink(outside, self.path / "soft")
        directory = StateDirectory(self.path)
        directory.open(NOBODY)
        self.addCleanup(directory.close)
        for name in ("", "lock", "version", "tls", "tls/ca.key"):
            self.assertEqual((self.path / name).stat().st_uid, NOBODY.uid, name)
        self.assertEqual(outside.stat().st_uid, 0)
