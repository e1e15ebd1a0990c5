"""The demo as a newcomer meets it: what it prints, what it leaves behind, how it ends."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.demo.show import Screen, essence
from dcrouter.admin.demo.steps import Outcome, Step, StepFailed
from dcrouter.admin.demo.tour import tour
from tests.support.router import is_alive

DEMO = (sys.executable, "-m", "dcrouter.admin.cli", "demo")
KINDS = (
    "plain forward",
    "passthrough",
    "terminate",
    "re-encrypt",
    "redirect",
    "respond",
    "block",
    "no such name",
    "mail in",
    "STARTTLS",
    "mail on",
    "no relaying",
)
PATIENCE = 240.0


class DemoTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="demo-test-")
        self.addCleanup(self.directory.cleanup)
        self.places = Path(self.directory.name)
        self.environment = {**os.environ, "TMPDIR": self.directory.name}

    def demo(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*DEMO, *options], env=self.environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def test_every_kind_of_route_does_what_it_is_for(self) -> None:
        """Each step is told as ok with its milliseconds, the exit status is 0, and nothing stays behind."""
        done = self.demo()

        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stderr, "")
        for kind in KINDS:
            self.assertRegex(done.stdout, rf"(?m)^  ok     {re.escape(kind)} .* ms$")
        self.assertNotIn("FAILED", done.stdout)
        self.assertNotIn("\x1b", done.stdout)
        self.assertEqual(list(self.places.iterdir()), [])

    def test_the_router_says_the_same(self) -> None:
        """Each connection is found again in the access log: its route, its target, who ended it, its phases."""
        told = self.demo().stdout.partition("What the router says")[2].partition("\n\n")[0]

        for route in ("plain", "passthrough", "terminate", "reencrypt", "redirect", "respond", "block"):
            self.assertRegex(told, rf"(?m)^  {route} .*\d+/\d+ .*: .*(hello|http) \d")
        self.assertRegex(told, r"(?m)^  - .* no route for nobody.localhost")
        self.assertEqual(len(re.findall(r"(?m)^  smtp-\d+ .* client: quit ", told)), 4)

    def test_what_is_kept_is_a_good_configuration(self) -> None:
        """--keep leaves the directory with a routes.yaml that `check` is content with."""
        done = self.demo("--keep")
        (place,) = self.places.iterdir()

        self.assertIn(f"kept: {place}", done.stdout)
        checked = subprocess.run(
            [*DEMO[:-1], "check", str(place / "routes.yaml")], capture_output=True, text=True, timeout=240, check=False
        )
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))

    def test_ctrl_c_leaves_nothing_behind(self) -> None:
        """SIGINT while it runs: no process, no directory, exit status 130."""
        self.ended_by(signal.SIGINT)

    def test_sigterm_leaves_nothing_behind(self) -> None:
        """SIGTERM is taken for a Ctrl-C."""
        self.ended_by(signal.SIGTERM)

    def ended_by(self, number: signal.Signals) -> None:
        with subprocess.Popen(DEMO, env=self.environment, stdout=subprocess.PIPE, text=True) as demo:
            assert demo.stdout is not None
            started = ""
            for line in demo.stdout:
                started += line
                if "What a client sees" in line:
                    break
            demo.send_signal(number)
            rest = demo.stdout.read()
            status = demo.wait(PATIENCE)

        self.assertEqual(status, 130, started + rest)
        pid = int(re.findall(r"pid (\d+)", started)[0])
        self.assertFalse(is_alive(pid))
        self.assertEqual(list(self.places.iterdir()), [])

    def test_it_stays_until_ctrl_c(self) -> None:
        """--stay leaves all running after the steps; then Ctrl-C is its regular end."""
        with subprocess.Popen([*DEMO, "--stay"], env=self.environment, stdout=subprocess.PIPE, text=True) as demo:
            assert demo.stdout is not None
            told = ""
            for line in demo.stdout:
                told += line
                if "until Ctrl-C" in line:
                    break
            pid = int(re.findall(r"pid (\d+)", told)[0])
            self.assertTrue(is_alive(pid))
            demo.send_signal(signal.SIGINT)
            told += demo.stdout.read()
            status = demo.wait(PATIENCE)

        self.assertEqual(status, 0, told)
        self.assertFalse(is_alive(pid))
        self.assertEqual(list(self.places.iterdir()), [])

    def test_a_router_that_does_not_start_is_told_with_its_words(self) -> None:
        """Exit status 1, and what the router wrote."""
        out = io.StringIO()
        command = (sys.executable, "-c", "print('no luck today'); raise SystemExit(3)")

        self.assertEqual(tour(out, command=command), 1)

        self.assertIn("ended with exit status 3 before it was ready", out.getvalue())
        self.assertIn("    no luck today", out.getvalue())

    def test_ports_that_somebody_took_are_left_to_them(self) -> None:
        """The router is started again on other ports, and given up after the third time."""
        out = io.StringIO()
        marks = self.places / "marks"
        program = f"open({str(marks)!r}, 'a').write('x'); print('the port is taken'); raise SystemExit(1)"

        self.assertEqual(tour(out, command=(sys.executable, "-c", program)), 1)

        self.assertEqual(marks.read_text(), "xxx")

    def test_no_room_for_it_is_one_line(self) -> None:
        """Without a temporary directory there is a complaint, and no traceback."""
        before, tempfile.tempdir = tempfile.tempdir, str(self.places / "missing")
        self.addCleanup(setattr, tempfile, "tempdir", before)

        with self.assertRaisesRegex(Exception, "no temporary directory can be made"):
            tour(io.StringIO())


class ScreenTests(SynchronousTestCase):
    def test_a_failed_step_shows_its_cause(self) -> None:
        """FAILED in the place of ok, and the reason below."""
        out = io.StringIO()
        step = Step(kind="terminate", way="here -> there", by_hand="", act=lambda: outcome)
        outcome = Outcome(answer="200", seconds=0.0123, port=1)

        Screen(out).step(step, StepFailed("answered 502 instead of 200"), 13, 20)
        Screen(out).step(step, outcome, 13, 20)

        lines = out.getvalue().splitlines()
        self.assertEqual(lines[0], "  FAILED terminate      here -> there")
        self.assertEqual(lines[1].strip(), "answered 502 instead of 200")
        self.assertEqual(lines[2], "  ok     terminate      here -> there         200             12.3 ms")

    def test_colours_are_for_terminals(self) -> None:
        """Escape sequences where somebody looks, and only there."""

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        terminal, pipe = Terminal(), io.StringIO()
        for out in (terminal, pipe):
            Screen(out).title("What a client sees")

        self.assertIn("\x1b[1m", terminal.getvalue())
        self.assertNotIn("\x1b", pipe.getvalue())

    def test_the_essence_of_a_line_without_route(self) -> None:
        """What is not known is a dash."""
        line = {"bytes_in": 1, "bytes_out": 2, "phases": {"hello": 0.0125}, "ended_by": "router", "reason": "no route"}

        self.assertEqual(essence(line), ("-", "-", "1/2", "router: no route", "hello 12.5"))
