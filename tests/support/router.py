"""The whole service as real processes, for tests that talk to it from outside.

    cls.router = Router(TEXT, ports=("web", "mail"), backend=backend.port)
    cls.addClassCleanup(cls.router.close)

1. TEXT is a routes.yaml. `$web` in it becomes a port that is ours until `close`, `$backend` the given value.
2. The constructor returns when the service is ready, or raises with its log.
3. `close` ends it and fails where the log holds a warning, an error or a traceback that `expected` does not match.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, TypeVar

from dcrouter.admin.client import ApiError, ask
from tests.support.ports import Reserved

T = TypeVar("T")

RUN = (sys.executable, "-m", "dcrouter.admin.cli", "run")
COMMON = """version: 1
listen: ["127.0.0.1"]
access_log: {file: access.log}
"""
PATIENCE = 240.0
STARTING = 240.0
"""Seconds; three interpreters start, which a busy machine makes slow, and the service has a limit of its own."""


def until(fact: Callable[..., T | None], seconds: float = PATIENCE, pause: float = 0.02) -> T:
    """The first true value of `fact`, which is called without arguments; AssertionError where there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {found!r}")
        time.sleep(pause)
    return found


class Router:
    """One service. `base`: its directory, with routes.yaml, state/ and out.log; `ports`: name -> number.

    `descriptors`: its limit of open files. `expected`: patterns of log lines that are no surprise. `common` is put
    before the text. `environment`: beside what the tests have.
    """

    def __init__(
        self,
        text: str,
        *,
        ports: Sequence[str] = (),
        expected: Sequence[str] = (),
        descriptors: int | None = None,
        command: Sequence[str] = RUN,
        common: str = COMMON,
        start: bool = True,
        environment: Mapping[str, str] | None = None,
        **values: object,
    ) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="dcrouter-"))
        self.state = self.base / "state"
        self.expected = list(expected)
        self._reserved = {name: Reserved() for name in ports}
        self.ports = {name: one.port for name, one in self._reserved.items()}
        self.command = (*_dies_with_us(), *_limited(descriptors), *command)
        self._log = self.base / "out.log"
        self._log.touch()
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {**os.environ, **(environment or {})}
        self._common = common
        self._values = {**self.ports, "base": self.base, **values}
        self.write(text)
        if start:
            try:
                self.start()
            except BaseException:
                self._clear()
                raise

    def write(self, text: str, common: str | None = None) -> None:
        """Another routes.yaml in the place of the one before, made from `text` as that was."""
        made = Template((self._common if common is None else common) + text).substitute(self._values)
        fresh = self.base / "routes.yaml.new"
        fresh.write_text(made)
        fresh.rename(self.base / "routes.yaml")

    def reload(self) -> dict[str, Any]:
        """Have it read that: the outcome, refused or not."""
        try:
            return ask(self.state / "admin.sock", "POST", "/reload")
        except ApiError as error:
            if "problems" not in error.answer:
                raise
            return error.answer

    def free(self, *names: str) -> None:
        """Let somebody else bind these ports."""
        for name in names:
            self._reserved.pop(name).close()

    def start(self) -> None:
        """Start it (again), and wait until it is ready."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.base,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
            )
        process = self.process
        try:
            until(lambda: process.poll() is not None or (self.status() or {}).get("state") == "ready", STARTING)
        except AssertionError as error:
            raise AssertionError(f"{error}: not ready:\n{self._log.read_text()}") from error
        if process.poll() is not None:
            raise AssertionError(f"not started, exit {process.returncode}:\n{self._log.read_text()}")

    def try_start(self, command: Sequence[str] = RUN) -> tuple[int, str]:
        """A start that is expected to be refused: exit status and what it printed."""
        done = subprocess.run(command, cwd=self.base, capture_output=True, text=True, timeout=STARTING, check=False)
        return done.returncode, done.stdout + done.stderr

    def stop(self, seconds: float = PATIENCE) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def close(self) -> None:
        """End it however it is, remove everything, and complain of what the log should not hold."""
        try:
            if self.process is not None and self.process.poll() is None:
                pids = self.pids()
                self._end(self.process)
                assert not any(is_alive(pid) for pid in pids.values()), "a child has outlived the service"
            surprises = self.surprises()
        finally:
            self._clear()
        if surprises:
            raise AssertionError("unexpected in the log:\n" + "\n".join(surprises))

    def surprises(self) -> list[str]:
        """Lines of the log that are worse than an info, or no line of ours at all."""
        found = []
        for line in self._log.read_text().splitlines():
            if not _is_harmless(line) and not any(re.search(pattern, line) for pattern in self.expected):
                found.append(line)
        return found

    def log(self) -> list[dict[str, Any]]:
        """The log so far."""
        return [json.loads(line) for line in _lines(self._log.read_text()) if line.startswith("{")]

    def said(self, pattern: str) -> list[str]:
        """Sentences of the log that match."""
        return [line["text"] for line in self.log() if re.search(pattern, line["text"])]

    # What it does.

    def command_line(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`dcrouter WORDS`, beside it."""
        return subprocess.run(
            (sys.executable, "-m", "dcrouter.admin.cli", *words),
            cwd=self.base,
            capture_output=True,
            text=True,
            timeout=STARTING,
            check=False,
        )

    def status(self) -> dict[str, Any] | None:
        """As `dcrouter status --json` shows it; None while nobody answers."""
        try:
            return ask(self.state / "admin.sock", "GET", "/status")
        except ApiError:
            return None

    def counters(self, role: str) -> dict[str, Any]:
        """What one child counts, once it answers: a busy machine may keep it from that for a while."""

        def told() -> dict[str, Any] | None:
            counters: dict[str, Any] | None = (self.status() or {}).get("children", {}).get(role, {}).get("counters")
            return counters

        return until(told) or {}

    def queue(self) -> list[dict[str, Any]]:
        """The recipients that wait or have failed, once the mail process answers."""

        def told() -> list[list[dict[str, Any]]]:
            try:
                return [ask(self.state / "admin.sock", "GET", "/queue")["messages"]]
            except ApiError:
                return []

        return until(told)[0]

    def pids(self) -> dict[str, int]:
        """role -> process id, of those that run; `parent` too."""
        status = self.status()
        if status is None:
            return {"parent": self.process.pid} if self.process is not None else {}
        return {
            "parent": status["pid"],
            **{role: child["pid"] for role, child in status["children"].items() if child["pid"]},
        }

    def connect(self, name: str, timeout: float = 60.0) -> socket.socket:
        """A plain connection to the port of that name."""
        return socket.create_connection(("127.0.0.1", self.ports[name]), timeout)

    def access(self, count: int = 1, **fields: object) -> list[dict[str, Any]]:
        """The access lines whose `fields` have these values, once there are `count`; then that is all there are."""

        def found() -> list[dict[str, Any]] | None:
            lines = [line for line in self.access_lines() if all(line.get(key) == want for key, want in fields.items())]
            return lines if len(lines) >= count else None

        lines = until(found)
        assert len(lines) == count, lines
        return lines

    def access_lines(self) -> list[dict[str, Any]]:
        """The access log so far."""
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in _lines((self.state / "access.log").read_text())]
        return []

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            # A test has left connections; the second signal spares them no time.
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
            self.expected.append("a second signal: ending at once")

    def _clear(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        for one in self._reserved.values():
            one.close()
        shutil.rmtree(self.base, ignore_errors=True)


def _lines(text: str) -> list[str]:
    """Of a file that is being written: the last one may be half of one."""
    return text[: text.rfind("\n") + 1].splitlines()


def both_ends(client: socket.socket) -> dict[str, Any]:
    """What the access line of this connection says of its two ends; one alone may come again in a long log."""
    return {"peer": list(client.getsockname()[:2]), "local": list(client.getpeername()[:2])}


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descriptors(pid: int) -> int:
    """How many files a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def sockets(pid: int) -> int:
    """How many of them are sockets: pipes are pooled, so their number is not that of transfers."""
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
    return count


def resident(pid: int) -> int:
    """Its RSS, in bytes (proc(5))."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _is_harmless(line: str) -> bool:
    try:
        said = json.loads(line)
    except ValueError:
        return False
    return isinstance(said, dict) and said["level"] in ("info", "debug") and not said.get("traceback")


def _dies_with_us() -> tuple[str, ...]:
    """A test run that is killed takes its services along."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL") if setpriv else ()


def _limited(descriptors: int | None) -> tuple[str, ...]:
    return ("prlimit", f"--nofile={descriptors}:{descriptors}") if descriptors else ()
