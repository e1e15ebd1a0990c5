"""What holds for every test: whatever it and its programs put into the temporary directory, and what trial's mktemp
makes, lies in one directory that goes with the run. Examples that Hypothesis makes may take their time on a busy
machine, and are the same in each run; `--hypothesis-profile search` has others each time. Programs that are started can
be ended by Ctrl-C, though the run itself may not (nohup, a job in the background). At the end it is told how many cases
of public suites have passed and failed.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from twisted.trial import util

from tests.support.publicdata import COUNTED

settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("any machine", settings.get_profile("search"), derandomize=True)
settings.load_profile("any machine")
util.DEFAULT_TIMEOUT_DURATION = 600.0  # trial's two minutes for a test may be too few; each wait has its own deadline

for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:  # which programs inherit
        signal.signal(_number, lambda number, frame: None)


def pytest_configure(config: pytest.Config) -> None:
    """The run's own temporary directory; workers of xdist get it with their environment."""
    if hasattr(config, "workerinput"):
        return
    own = tempfile.mkdtemp(prefix="dcrouter-tests-")
    os.chmod(own, 0o711)  # programs that drop privileges find their files in it
    os.environ["TMPDIR"] = tempfile.tempdir = own
    atexit.register(_remove, own, os.getpid())  # pytest tidies its directories at exit, too: before this


def _remove(own: str, run: int) -> None:
    if os.getpid() == run:  # not in what a test has forked
        shutil.rmtree(own)


@pytest.fixture(scope="session", autouse=True)
def _elsewhere() -> Iterator[None]:
    before = os.getcwd()
    os.chdir(tempfile.mkdtemp())
    yield
    os.chdir(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have printed of public suites is captured; with xdist it comes with their reports."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for line in COUNTED.findall(report.capstdout):
                terminalreporter.write_line(line)
