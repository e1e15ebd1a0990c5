"""What .ci/run relies on to tell the truth."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent


def script(name: str) -> ModuleType:
    """A script of .ci/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class LowestTests(SynchronousTestCase):
    def constraints(self, install: str, test: str) -> list[str]:
        setup = Path(self.mktemp())
        text = f"[options]\ninstall_requires =\n    {install}\n[options.extras_require]\ntest =\n    {test}\n"
        setup.write_text(text, "utf-8")
        found: list[str] = script("lowest").lowest(setup)
        return found

    def test_lower_bounds_become_pins(self) -> None:
        """Of the package and of its tests."""
        self.assertEqual(self.constraints("attrs >= 23.2", "pytest>=8.0.1"), ["attrs==23.2", "pytest==8.0.1"])

    def test_a_dependency_without_a_bound_is_an_error(self) -> None:
        """It would be tested with its newest version only."""
        for line in ("attrs", "attrs == 23.2", "attrs >= 23.2, < 24"):
            self.assertRaises(ValueError, self.constraints, line, "pytest >= 8")

    def test_our_own_dependencies_all_have_bounds(self) -> None:
        """setup.cfg as it is."""
        self.assertIn("Twisted==", " ".join(script("lowest").lowest(ROOT / "setup.cfg")))


class ReadmeTests(SynchronousTestCase):
    def test_the_code_block_behind_the_marker_is_the_command(self) -> None:
        """Not one before it, nor a later one."""
        readme = "```sh\nno\n```\n<!-- test command -->\n\n```sh\nmake\nmake test\n```\n```sh\nno\n```\n"
        self.assertEqual(script("readme").command(readme, "test command"), "make\nmake test")

    def test_a_missing_marker_is_an_error(self) -> None:
        """Nothing is run by guess."""
        self.assertRaises(ValueError, script("readme").command, "```sh\nmake\n```", "test command")

    def test_our_own_readme_has_it(self) -> None:
        """README.md as it is."""
        self.assertIn("pytest", script("readme").command((ROOT / "README.md").read_text("utf-8"), "test command"))


class SkippedTests(SynchronousTestCase):
    def missing(self, *cases: str) -> list[str]:
        report = Path(self.mktemp())
        report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>", "utf-8")
        found: list[str] = script("skipped").missing(report)
        return found

    def test_a_missing_peer_is_found(self) -> None:
        """Whether the reason stands in the message or in the text; other reasons are left alone."""
        found = self.missing(
            '<testcase classname="a" name="b"/>',
            '<testcase classname="a" name="c"><skipped message="needs a real peer: swaks"/></testcase>',
            '<testcase classname="a" name="d"><skipped message="skip">needs a real peer: curl</skipped></testcase>',
            '<testcase classname="a" name="e"><skipped message="needs root"/></testcase>',
        )
        self.assertEqual([line.partition(":")[0] for line in found], ["a.c", "a.d"])

    def test_a_report_without_tests_is_an_error(self) -> None:
        """A run that collected nothing proves nothing."""
        self.assertRaises(ValueError, self.missing)
