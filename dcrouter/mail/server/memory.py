"""Whether memory runs out: of the host, or of the control group that the service is confined to.

/proc/meminfo (proc(5)), and memory.max, memory.current, memory.stat of cgroup v2, or their elders of v1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from twisted.logger import Logger

LOOK = 1.0
"""Seconds between two looks."""
LEAST = 128 << 20
"""Octets that stay free, or LEAST_SHARE of all where that is less."""
LEAST_SHARE = 1 / 16
BACK = 1.25
"""Times as much must be free again after a shortage, so that the answer does not flutter."""

_KB = re.compile(rb"^(MemTotal|MemAvailable):\s+(\d+) kB", re.MULTILINE)


class Memory:
    """`total`: octets there are. `clock`: seconds of any kind that only grow. `root`: of the file system."""

    _log = Logger()

    def __init__(self, clock: Callable[[], float], root: Path = Path("/")) -> None:
        self._clock = clock
        self._proc = root / "proc"
        self._groups = root / "sys" / "fs" / "cgroup"
        self._looked = float("-inf")
        self._short = False
        self.total = min((total for total, _ in self._known()), default=1 << 40)

    @property
    def short(self) -> bool:
        """Whether nothing new is to be begun."""
        if self._clock() - self._looked >= LOOK:
            self._look()
        return self._short

    def _look(self) -> None:
        self._looked = self._clock()
        tight = [
            (free, least)
            for total, free in self._known()
            if free < (least := min(LEAST, total * LEAST_SHARE)) * (BACK if self._short else 1.0)
        ]
        if bool(tight) == self._short:
            return
        self._short = bool(tight)
        if tight:
            free, least = tight[0]
            self._log.error(
                "no more mail is taken: {free} bytes of memory are left, and {least} are to stay",
                free=free,
                least=int(least),
            )
        else:
            self._log.info("mail is taken again: there is memory")

    def _known(self) -> Iterator[tuple[int, int]]:
        """(octets in all, octets left) of the host and of the group that bounds us; what cannot be read is left out."""
        found = {name: int(kilo) * 1024 for name, kilo in _KB.findall(_read(self._proc / "meminfo"))}
        if len(found) == 2:
            yield found[b"MemTotal"], found[b"MemAvailable"]
        for line in _read(self._proc / "self" / "cgroup").decode("utf-8", "replace").splitlines():
            number, controllers, path = (*line.split(":", 2), "", "")[:3]
            if number == "0" and not controllers:
                yield from self._group(self._groups, path, "memory.max", "memory.current", b"inactive_file")
            elif "memory" in controllers.split(","):
                yield from self._group(
                    self._groups / "memory",
                    path,
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                    b"total_inactive_file",
                )

    def _group(self, top: Path, path: str, limit: str, used: str, cache: bytes) -> Iterator[tuple[int, int]]:
        # In a container the path is that of the host, and the group is the top of what is seen here.
        for here in dict.fromkeys((top / path.lstrip("/"), top)):
            most, now = _read(here / limit).strip(), _read(here / used).strip()
            if most.isdigit() and now.isdigit() and int(most) < 1 << 60:
                kept = re.search(rb"^" + cache + rb" (\d+)$", _read(here / "memory.stat"), re.MULTILINE)
                yield int(most), int(most) - int(now) + (int(kept[1]) if kept else 0)
                return


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
