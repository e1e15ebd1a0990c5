"""What a run of the tests leaves on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "pytest", "-n", "1", "-p", "no:cacheprovider", "tests/config/test_client_auth.py")


class LitterTests(SynchronousTestCase):
    def test_a_run_leaves_nothing_behind(self) -> None:
        """Whatever its tests put into the temporary directory, a worker's too."""
        place = Path(tempfile.mkdtemp())  # a short name: unix sockets are in it
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment = {**ours, "TMPDIR": str(place)}
        done = subprocess.run(
            COMMAND, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertEqual(list(place.iterdir()), [])
