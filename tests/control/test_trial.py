"""The operator's own code, tried out in a process of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.code import Code
from dcrouter.control import trial
from dcrouter.control.privileges import find_account

GOOD = "from twisted.internet.protocol import Factory\n\nF = Factory\n"


class TrialTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def tried(self, text: str, *names: str) -> list[str]:
        (self.folder / "tried_here.py").write_text(text)
        codes = [Code(kind="factory", name=f"tried_here:{name}", where="here") for name in names or ("F",)]
        return trial.tried(codes, self.folder)

    def test_what_is_good_is_no_problem(self) -> None:
        """Whatever it prints; nothing is imported here, or written there."""
        self.assertEqual(self.tried("print('[\"wrong\"]')\n" + GOOD), [])
        self.assertEqual([path.name for path in self.folder.iterdir()], ["tried_here.py"])
        self.assertEqual(trial.tried((), Path("/nowhere")), [])

    def test_what_is_wrong_is_told(self) -> None:
        found = self.tried(GOOD, "F", "G")
        self.assertEqual(len(found), 1)
        self.assertTrue(found[0].startswith("here: tried_here:G: tried_here ("), found)

    def test_code_that_ends_the_process_ends_only_that(self) -> None:
        """In whatever way, and with whatever it says."""
        for text, cause in (
            ("import os\nos._exit(3)\n", "exit status 3"),
            ("import os\nos._exit(0)\n", "exit status 0"),
            ("import os\nos.kill(os.getpid(), 9)\n", "signal 9"),
            ("import os\nos.write(1, b'[]')\nos._exit(0)\n", "exit status 0"),
        ):
            self.assertEqual(
                self.tried(text), [f"tried_here:F: the process that imports it ends at once ({cause})"], text
            )

    def test_code_that_never_ends_is_ended(self) -> None:
        self.patch(trial, "WITHIN", 2)
        self.assertEqual(self.tried("while True: pass\n"), ["tried_here:F: not imported within 2 s"])

    def test_root_becomes_the_user_first(self) -> None:
        """So that it is tried with the rights that it will have, and none more."""
        if os.geteuid() != 0:
            self.skipTest("only root can become somebody else")
        self.folder.chmod(0o755)
        text = "import os\nassert os.geteuid() != 0\nassert os.getresuid()[2] != 0\n" + GOOD
        (self.folder / "tried_here.py").write_text(text)
        code = Code(kind="factory", name="tried_here:F", where="here")
        self.assertEqual(trial.tried([code], self.folder, find_account("nobody", None)), [])
        self.assertIn("AssertionError", trial.tried([code], self.folder)[0])
