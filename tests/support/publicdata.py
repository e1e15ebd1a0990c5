"""Public test suites that are not part of the project: read from the directory that DCROUTER_TEST_DATA names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from unittest import SkipTest

import yaml

VARIABLE = "DCROUTER_TEST_DATA"

COUNTED = re.compile(r"^.+ suite: \d+ passed, \d+ failed$", re.MULTILINE)
"""What `print_counts` prints."""


def print_counts(suite: str, count: int, failed: int) -> None:
    """Of `count` cases so many have failed: told at the end of the run (tests/conftest.py)."""
    print(f"\n{suite} suite: {count - failed} passed, {failed} failed")


def documents(path: str) -> list[Any]:
    """The YAML documents of a file; raises SkipTest where the variable is unset, and fails where the file is absent."""
    directory = os.environ.get(VARIABLE)
    if not directory:
        raise SkipTest(f"needs public test data: {VARIABLE} names no directory with {path}")
    return list(yaml.safe_load_all((Path(directory) / path).read_text("utf-8")))
