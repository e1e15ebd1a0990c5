"""What holds for every test: files that trial's mktemp makes are pytest's to keep and to clean, not the checkout's, and
examples that Hypothesis makes may take their time on a busy machine. At the end it is told how many cases of public
suites have passed and failed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.publicdata import COUNTED

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    os.chdir(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have printed of public suites is captured; with xdist it comes with their reports."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for line in COUNTED.findall(report.capstdout):
                terminalreporter.write_line(line)
