"""bench/: its rows are known by name, its goals judge what they say, its load makers' words are read rightly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import load, peers, report
from bench.backend import Certificate
from bench.hello import client_hello
from bench.process import Failed, Program, cpu_seconds, tree
from bench.rows import ROWS, Goal

_ROOT = Path(__file__).parent.parent.parent


class CatalogueTests(SynchronousTestCase):
    def test_without_words_the_rows_are_listed(self) -> None:
        """`python -m bench` measures nothing and names every row."""
        done = subprocess.run(
            [sys.executable, "-m", "bench"], cwd=_ROOT, capture_output=True, text=True, timeout=240, check=True
        )
        self.assertEqual([row.name for row in ROWS if f"  {row.name} " not in done.stdout], [])

    def test_an_unknown_row_is_refused(self) -> None:
        """A word that is no row ends with 2 and the way to the list."""
        done = subprocess.run(
            [sys.executable, "-m", "bench", "plane-new"],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        self.assertEqual(done.returncode, 2)
        self.assertIn("no row is called 'plane-new'", done.stderr)

    def test_rows_have_names_of_their_own_and_goals_on_their_own_figures(self) -> None:
        """A goal on a figure that its row does not print would never be seen."""
        self.assertEqual(len({row.name for row in ROWS}), len(ROWS))
        for row in ROWS:
            for goal in row.goals:
                self.assertIn(goal.figure, row.units, row.name)


class GoalTests(SynchronousTestCase):
    def test_a_goal_against_a_peer_is_judged_by_the_ratio(self) -> None:
        """1.5 times a peer's 10 is 15, not more."""
        goal = Goal(figure="cpu", kind="at most", bound=1.5, against="haproxy")
        self.assertTrue(goal.reached({"dcrouter": {"cpu": 15.0}, "haproxy": {"cpu": 10.0}}))
        self.assertFalse(goal.reached({"dcrouter": {"cpu": 15.1}, "haproxy": {"cpu": 10.0}}))

    def test_a_goal_without_a_peer_is_judged_in_its_own_unit(self) -> None:
        """4 KiB are 4 KiB."""
        goal = Goal(figure="memory", kind="at most", bound=4.0)
        self.assertTrue(goal.reached({"dcrouter": {"memory": 3.9}}))
        self.assertFalse(goal.reached({"dcrouter": {"memory": 4.1}}))

    def test_what_was_not_measured_is_neither_reached_nor_missed(self) -> None:
        """A side that is not installed decides nothing."""
        goal = Goal(figure="capacity", kind="at least", bound=1.0, against="nginx")
        self.assertIsNone(goal.reached({"dcrouter": {"capacity": 1.0}}))
        self.assertIsNone(goal.reached({"nginx": {"capacity": 1.0}}))


class LoadTests(SynchronousTestCase):
    def test_the_hello_is_one_whole_record_with_the_name(self) -> None:
        """What passthrough rows send is a handshake record of exactly its own length, asking for localhost."""
        hello = client_hello()
        self.assertEqual(hello[:2], b"\x16\x03")
        self.assertEqual(int.from_bytes(hello[3:5], "big") + 5, len(hello))
        self.assertIn(b"localhost", hello)

    def test_what_wrk_says_is_read(self) -> None:
        """Requests, seconds, and every kind of error."""
        sent = load.read_wrk(
            "  14803 requests in 1.10s, 4.26MB read\n"
            "  Socket errors: connect 1, read 2, write 3, timeout 4\n"
            "  Non-2xx or 3xx responses: 5\n"
        )
        self.assertEqual((sent.units, sent.seconds, sent.errors), (14803.0, 1.10, 15))

    def test_silence_of_wrk_is_an_error(self) -> None:
        """No figure is made out of nothing."""
        self.assertRaises(Failed, load.read_wrk, "")


class ProcessTests(SynchronousTestCase):
    def test_a_program_is_accounted_with_its_children_and_stopped_with_them(self) -> None:
        """The tree has the child; after stop neither is there."""
        log = Path(self.mktemp())
        code = (
            "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print(child.pid, flush=True); child.wait()"
        )
        program = Program([sys.executable, "-c", code], log, capture=True)
        self.addCleanup(program.stop)
        child = int(program.line())
        family = tree(program.pid)
        self.assertEqual([pid for pid, _ in family], [program.pid, child])
        self.assertGreaterEqual(cpu_seconds(family), 0.0)
        program.stop()
        self.assertRaises(Failed, cpu_seconds, family)

    def test_a_program_that_ends_early_says_why(self) -> None:
        """Its last words are in the error."""
        log = Path(self.mktemp())
        program = Program([sys.executable, "-c", "raise SystemExit('no room')"], log, capture=True)
        self.addCleanup(program.stop)
        self.assertIn("no room", str(self.assertRaises(Failed, program.line)))


class ConfigurationTests(SynchronousTestCase):
    def test_routes_yaml_has_a_route_for_each_frontend(self) -> None:
        """Modes, ports and the log are as the row asks."""
        here = Path("/nowhere")
        task = peers.Task(
            directory=here,
            certificate=Certificate(chain=here / "c.pem", key=here / "k.pem", both=here / "b.pem"),
            frontends=[
                peers.Frontend(mode="plain", port=1, target=("127.0.0.1", 81)),
                peers.Frontend(mode="passthrough", port=2, target=("127.0.0.1", 82)),
                peers.Frontend(mode="terminate", port=3, target=("127.0.0.1", 83)),
            ],
            access_log=True,
            mail=peers.MailSetup(port=25, sink=("127.0.0.1", 26)),
        )
        text = peers.routes_yaml(task)
        for part in ("name: plain_1", "mode: passthrough", "cert: /nowhere/c.pem", "access_log:", "kind: smtp"):
            self.assertIn(part, text)

    def test_figures_are_printed_with_three_digits(self) -> None:
        """12 345, 123.4, 1.23, and a dash for nothing."""
        self.assertEqual(
            [report.number(value) for value in (12345.0, 123.44, 1.234, None)], ["12 345", "123.4", "1.23", "-"]
        )
