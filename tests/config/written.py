"""A routes.yaml in a directory of its own, loaded as an operator would: with the path as it was told."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.admin import Config
from dcrouter.config.load import load_with_warnings
from dcrouter.errors import ConfigError

FORWARD = "{type: forward, target: {host: h.test, port: 1}}"


class FileTestCase(SynchronousTestCase):
    """Each test has an empty working directory, given back at its end."""

    def setUp(self) -> None:
        # Short: a unix socket's path has 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.directory)
        before = os.getcwd()
        os.chdir(self.directory)
        self.addCleanup(os.chdir, before)

    def load(self, text: str, environment: Mapping[str, str] | None = None) -> tuple[Config, list[str]]:
        """The configuration and its warnings, without the name of the file."""
        Path("routes.yaml").write_text(dedent(text), "utf-8")
        config, warnings = load_with_warnings(Path("routes.yaml"), environment or {})
        return config, [warning.removeprefix("routes.yaml:") for warning in warnings]

    def config(self, text: str, environment: Mapping[str, str] | None = None) -> Config:
        """The configuration, which has no warnings."""
        config, warnings = self.load(text, environment)
        self.assertEqual(warnings, [])
        return config

    def problems(self, text: str | bytes, environment: Mapping[str, str] | None = None) -> list[str]:
        """What is wrong with the file, without its name."""
        data = text if isinstance(text, bytes) else dedent(text).encode()
        Path("routes.yaml").write_bytes(data)
        error = self.assertRaises(ConfigError, load_with_warnings, Path("routes.yaml"), environment or {})
        for problem in error.problems:
            self.assertNotIn("\n", problem)
            self.assertTrue(problem.startswith("routes.yaml:"), problem)
        return [problem.removeprefix("routes.yaml:") for problem in error.problems]
