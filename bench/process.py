"""Programs that a measurement starts, and what the kernel accounted to them.

Whatever is started here is ended here: `Program.stop` is idempotent, and every start is paired with it by its owner.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 8.0
DESCRIPTORS = 16384  # 3 000 proxied connections are 6 000 sockets, plus pipes; more than any row needs


class Failed(Exception):
    """A program could not be started, or ended when it should not; the text is for the reader of the table."""


def raise_descriptor_limit() -> int:
    """Lift this process's soft limit, which its children inherit, as far as needed and allowed; gives the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


class Program:
    """One started program. `cores` is its affinity, inherited by its children; None leaves it to the scheduler."""

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        cores: frozenset[int] | None = None,
        capture: bool = False,
        nice: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.argv = list(argv)
        self.log = log

        def prepare() -> None:
            if cores is not None:
                os.sched_setaffinity(0, cores)
            if nice:
                os.nice(nice)

        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE if capture else subprocess.DEVNULL,
                stdout=subprocess.PIPE if capture else sink,
                stderr=sink,
                preexec_fn=prepare,
                env={**os.environ, **(environment or {})},
            )
        self.pid = self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    @property
    def code(self) -> int | None:
        """How it ended, None: it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Failed, with the end of its log, where it has ended."""
        code = self._process.poll()
        if code is not None:
            raise Failed(f"{self.argv[0]} ended with {code}: {self.tail()}")

    def tail(self) -> str:
        """The last lines that it logged."""
        return " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-4:])

    def line(self) -> str:
        """The next line of a captured program's output; Failed where it ended without one."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline().decode()
        if not text:
            self._process.wait(_STOP_SECONDS)
            raise Failed(f"{' '.join(self.argv[:4])} ended with {self._process.returncode}: {self.tail()}")
        return text

    def output(self, seconds: float) -> str:
        """All that a captured program still prints until it ends, which must be within `seconds`."""
        try:
            out, _ = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as late:
            self.stop()
            raise Failed(f"{self.argv[0]} did not end within {seconds:.0f} s") from late
        return out.decode(errors="replace") if out else ""

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to it and to those of its children that outlive it."""
        family = tree(self.pid) if self._process.poll() is None else []
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid, born in family:
            if pid != self.pid and started(pid) == born:
                os.kill(pid, 9)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on (state), or None where the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def started(pid: int) -> int | None:
    """When the process began, in ticks since boot: with the pid it names a process for good. None: no such process."""
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else int(fields[19])


def tree(root: int) -> list[tuple[int, int]]:
    """(pid, start) of `root` and all its descendants, parents first."""
    parents: dict[int, list[tuple[int, int]]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None and fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append((int(entry.name), int(fields[19])))
    born = started(root)
    found = [] if born is None else [(root, born)]
    for pid, _ in found:  # grows while it is walked
        found.extend(sorted(parents.get(pid, [])))
    return found


def command(pid: int) -> list[str]:
    """The words of its command line; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(processes: Sequence[tuple[int, int]]) -> float:
    """User and system time of these processes; Failed where one is gone, because its share would be missing."""
    total = 0
    for pid, born in processes:
        fields = _stat(pid)
        if fields is None or int(fields[19]) != born:
            raise Failed(f"process {pid} ended while it was measured")
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def whole_cpu_seconds(processes: Sequence[tuple[int, int]]) -> float:
    """User and system time of these processes and of the children that they have outlived."""
    total = 0
    for pid, born in processes:
        fields = _stat(pid)
        if fields is not None and int(fields[19]) == born:
            total += sum(int(value) for value in fields[11:15])
    return total / _TICKS


def private_kib(processes: Sequence[tuple[int, int]]) -> int:
    """Resident memory in KiB that is of one of these processes alone, together: what would be free without them."""
    total = 0
    for pid, _ in processes:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(int(value) for value in re.findall(r"(?m)^Private_(?:Clean|Dirty): +(\d+)", text))
    return total


def resident_kib(processes: Sequence[tuple[int, int]]) -> int:
    """Resident set of these processes together, in KiB; pages that they share are counted in each."""
    total = 0
    for pid, _ in processes:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total


def wait_for(ready: str, seconds: float, attempt: Callable[[], bool]) -> None:
    """Call `attempt` until it answers true; Failed, saying that `ready` was not reached, after `seconds`."""
    end = time.monotonic() + seconds
    while not attempt():
        if time.monotonic() > end:
            raise Failed(f"{ready}: not within {seconds:.0f} s")
        time.sleep(0.05)
