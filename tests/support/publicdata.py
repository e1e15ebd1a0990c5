"""Public test suites that are not part of the project: read from the directory that DCROUTER_TEST_DATA names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import SkipTest

import yaml

VARIABLE = "DCROUTER_TEST_DATA"


def documents(path: str) -> list[Any]:
    """The YAML documents of a file; raises SkipTest where the variable is unset, and fails where the file is absent."""
    directory = os.environ.get(VARIABLE)
    if not directory:
        raise SkipTest(f"needs public test data: {VARIABLE} names no directory with {path}")
    return list(yaml.safe_load_all((Path(directory) / path).read_text("utf-8")))
