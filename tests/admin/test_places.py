"""Where the configuration is looked for, and what is said where it is not."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from shutil import rmtree

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.places import find_config, service_socket
from dcrouter.errors import StartError


class PlacesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.base)

    def refused(self, given: str) -> str:
        return str(self.assertRaises(StartError, find_config, given))

    def test_the_file_here_comes_first(self) -> None:
        """Without a name, ./routes.yaml."""
        (self.base / "routes.yaml").write_text("version: 1")
        self.assertEqual(find_config(None), Path("routes.yaml"))

    def test_what_is_named_need_not_be_a_plain_file(self) -> None:
        """A pipe, as of `<(...)` in a shell, can be read too."""
        os.mkfifo(self.base / "pipe")
        self.assertEqual(find_config("pipe"), Path("pipe"))

    def test_a_place_that_is_closed_to_us_is_a_sentence(self) -> None:
        """Whatever keeps us from looking is told with the path, and is no traceback."""
        name = "n" * 300
        self.assertEqual(self.refused(name), f"{name}: cannot be read: file name too long")

    def test_what_is_not_there_is_told(self) -> None:
        """Nothing, and a folder."""
        self.assertEqual(self.refused("nothing.yaml"), "nothing.yaml: there is no such file")
        self.assertEqual(self.refused("."), ".: is a directory")

    def test_a_state_dir_into_which_nobody_can_look(self) -> None:
        """As that of another user: who asks the socket is told."""
        (self.base / "routes.yaml").write_text(f"state_dir: {'n' * 300}\n")
        for only in (None, "proxy", "mail"):
            found = service_socket(argparse.Namespace(config=None, socket=None, only=only))
            self.assertEqual(found.name, "admin.sock")

    def test_a_file_with_mistakes_tells_where_the_service_is(self) -> None:
        """The service runs with the one before it, and is asked why the file is not used."""
        for text in ("state_dir: ./here\nroutes: [\n", "state_dir: ./here\nnosuch: 1\n"):
            (self.base / "routes.yaml").write_text(text)
            found = service_socket(argparse.Namespace(config=None, socket=None, only=None))
            self.assertEqual(found, Path.cwd() / "here" / "admin.sock")
