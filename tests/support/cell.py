"""A root of its own for a server that cannot live beside the others of its kind.

Debian's mail servers exclude each other, and each wants its own accounts, directories and ports of the system. In a
cell a server sees this machine with its packages unpacked on top, writes into memory, and ends with all its children
when the cell does. Nothing of it is seen outside. It needs root, for mount(2) and process namespaces.

The packages come from the directory that DCROUTER_PEERS names: for each server a directory of its package's name with
the .deb files that `apt-get --download-only install` fetches (.ci/run does so).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from unittest import SkipTest

from tests.support.peers import require
from tests.support.programs import Program, accepts
from tests.support.router import until

PEERS = "DCROUTER_PEERS"

ENTER = """
set -e
mount -t tmpfs -o mode=755 cell "$1"
mkdir "$1/over" "$1/work" "$1/root"
mount -t overlay cell -o "lowerdir=/,upperdir=$1/over,workdir=$1/work" "$1/root"
cd "$1/root"
for package in $3; do dpkg-deb --fsys-tarfile "$package" | tar --keep-directory-symlink -xf -; done
mount --rbind /dev dev
mount -t proc proc proc
mkdir -p "./$2"
mount --bind "$2" "./$2"
chroot . sh -ec "$4" &
wait $!
"""
"""Arguments: an empty directory, the server's directory (seen under the same name), packages, what to run.

This shell stays, as the first process of the cell: the kernel tells it when unshare(1) dies, and all others die with
it. A server that changes its user is told of nothing (prctl(2), PR_SET_PDEATHSIG).
"""


class Cell(Program):
    """`script` runs as root of the cell and ends with `exec` of the server in the foreground; `base` is shared."""

    def __init__(self, script: str, base: Path, port: int, packages: Sequence[Path] = ()) -> None:
        (base / "cell").mkdir()
        argv = [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "sh", "-ec", ENTER, "cell"),
            *(str(base / "cell"), str(base), " ".join(map(str, packages)), script),
        ]
        super().__init__(argv, base, port, ())

    def close(self) -> None:
        """unshare(1) takes no SIGTERM while its child runs; the kernel ends the cell with it."""
        self.process.kill()
        self.process.wait()
        until(lambda: not accepts(self.port))
        super().close()


def packages_of(name: str, program: str) -> list[Path]:
    """What a cell of this package needs unpacked: nothing where `program` is installed. Raises SkipTest without it."""
    if os.geteuid():
        raise SkipTest(f"{name} needs root")
    if shutil.which(program, path="/usr/sbin"):
        return []
    found = sorted((Path(os.environ[PEERS]) / name).glob("*.deb")) if os.environ.get(PEERS) else []
    if not found:
        raise SkipTest(f"needs a real peer: {name} is neither installed nor among the packages of {PEERS}")
    need_cells()
    return found


def need_cells() -> None:
    """Raises SkipTest where the kernel gives us none."""
    if os.geteuid():
        raise SkipTest("a root of its own needs root")
    if why := _obstacle():
        raise SkipTest(f"needs a real peer: no cell for it: {why}")


@cache
def _obstacle() -> str:
    require("unshare")
    with tempfile.TemporaryDirectory(prefix="cell-") as base:
        (Path(base) / "cell").mkdir()
        words = ("--mount", "--pid", "--fork", "--mount-proc", "sh", "-ec", ENTER, "cell", f"{base}/cell", base, "")
        argv = ["unshare", *words, "exit 0"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    return done.stderr if done.returncode else ""
