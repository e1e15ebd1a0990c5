"""dcrouter/durable.py on a disk that forgets."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from shutil import rmtree

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.durable import make_directory, sync_directory
from tests.support.disk import Disk
from tests.support.fuse import Mounted


class TestDirectories(SynchronousTestCase):
    def setUp(self) -> None:
        self.disk = Disk()
        self.at = Path(tempfile.mkdtemp(prefix="forgetful-"))
        self.addCleanup(rmtree, self.at)

    def after(self, make: object) -> list[str]:
        """What is left of the disk when the power was lost after `make`."""
        with Mounted(self.disk, self.at):
            make()  # type: ignore[operator]
            self.disk.off()
        self.disk.lose()
        return sorted(node.path for node in self.disk.nodes.values() if node.path)

    def test_all_that_is_made_is_durable(self) -> None:
        """However deep it is, without another word."""
        left = self.after(lambda: make_directory(self.at / "a" / "b" / "c"))
        self.assertEqual(left, ["a", "a/b", "a/b/c"])

    def test_what_somebody_made_and_left_is_durable_too(self) -> None:
        """He may have been killed between mkdir and fsync."""

        def make() -> None:
            os.makedirs(self.at / "a" / "b")
            make_directory(self.at / "a" / "b" / "c")

        self.assertEqual(self.after(make), ["a", "a/b", "a/b/c"])

    def test_mkdir_alone_is_not(self) -> None:
        """The disk is what it is said to be."""
        self.assertEqual(self.after(lambda: os.makedirs(self.at / "d" / "e")), [])

    def test_a_name_is_durable_with_its_directory(self) -> None:
        """And the content of its file is not."""

        def make() -> None:
            (self.at / "file").write_text("content")
            sync_directory(self.at)

        self.assertEqual(self.after(make), ["file"])
        self.assertEqual(self.disk.read("file"), b"")

    def test_a_file_in_its_place_is_an_error(self) -> None:
        """And is left alone."""
        with Mounted(self.disk, self.at):
            (self.at / "x").write_text("content")
            self.assertRaises(FileExistsError, make_directory, self.at / "x")
