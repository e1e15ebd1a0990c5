"""docs/standards.md names tests: all of them are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "standards.md"

_NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def names_in(file: Path) -> set[str]:
    """The tests of a file."""
    tree = ast.parse(file.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


class StandardsTests(SynchronousTestCase):
    def test_each_line_has_a_test_that_exists(self) -> None:
        """At least one, in a file under tests/, with that name."""
        tables = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
        lines = [line for line in tables if not line.startswith("| what |")]
        self.assertGreater(len(lines), 50)
        for line in lines:
            named = _NAMED.findall(line)
            self.assertTrue(named, line)
            for file, name in named:
                self.assertTrue((TESTS / file).is_file(), file)
                self.assertIn(name, names_in(TESTS / file), line)
