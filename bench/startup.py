"""`python -m bench.startup [COUNT]`: the service starts with COUNT queued recipients (1 000 000), and what that takes.

Twice: with all of them due later, and with all of them due now, for next hops that refuse the connection. Seconds until
the greeting, the most memory that the mail process had meanwhile and in the seconds after it, and how long the
operator's questions take then. It needs about 1.5 KB of disk for each, in the directory for temporary files.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.mta import DEAD
from bench.place import free_port

WATCHED = 20.0
"""Seconds after the greeting for which memory is watched."""

START_WITHIN = 120.0

_QUESTIONS = (
    ("stats",),
    ("list", "--limit", "1000"),
    ("list", "--recipient", "nobody.test"),
    ("list", "--state", "failed", "--older", "1d"),
    ("hold", "--sender", "nobody.test"),
)


def configuration(state: Path, port: int) -> str:
    """A rule for each dead destination: loopback ports on which nobody listens."""
    rules = [
        {
            "name": f"dead{number}",
            "match": {"recipients": [f"*@dead{number}.test"], "clients": "any"},
            "action": {"type": "forward", "targets": [{"host": "127.0.0.1", "port": free_port()}]},
        }
        for number in range(DEAD)
    ]
    email = {
        "hostname": "mail.example.test",
        "postmaster": "root@dead0.test",
        "ports": [{"port": port, "kind": "smtp"}],
        "queue": {"max_size": 10_000_000},
        "rules": rules,
    }
    return json.dumps({"version": 1, "state_dir": str(state), "email": email})


def measure(directory: Path, count: int, spread: float, behind: float) -> None:
    """Fills, starts, watches, asks. `behind`: seconds by which due times are moved into the past."""
    state = directory / f"state{behind:g}"
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "bench.fill", str(state), str(count), str(spread)], check=True, timeout=3600)
    if behind:
        _move_due(state, behind)
    print(f"  filled in {time.monotonic() - began:.0f} s")
    port = free_port()
    source = directory / "routes.yaml"
    source.write_text(configuration(state, port))
    began = time.monotonic()
    log = directory / "log"
    with log.open("wb") as output:
        service = subprocess.Popen(
            [sys.executable, "-m", "dcrouter.tap", "--config", str(source)], stdout=output, stderr=output
        )
    try:
        _greeting(port, began)
        print(f"  greeting after {time.monotonic() - began:.1f} s")
        until = time.monotonic() + WATCHED
        while time.monotonic() < until:
            time.sleep(0.5)
        status = json.loads(_dcrouter("status", "--json", "--config", str(source)))
        pid = status["children"]["mail"]["pid"]
        print(
            f"  most memory of the mail process: {_peak(pid):.0f} MB; {status['children']['mail']['counters']['queue']}"
        )
        for question in _QUESTIONS:
            before = time.monotonic()
            _dcrouter("queue", *question, "--config", str(source))
            print(f"  queue {' '.join(question)}: {time.monotonic() - before:.1f} s")
        print(f"  most memory of the mail process: {_peak(pid):.0f} MB")
    finally:
        service.terminate()
        service.wait(120)


def _greeting(port: int, began: float) -> None:
    while time.monotonic() < began + START_WITHIN:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=START_WITHIN) as connection:
                if connection.recv(3) == b"220":
                    return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"no greeting within {START_WITHIN:g} s")


def _dcrouter(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dcrouter.admin.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def _peak(pid: int) -> float:
    """Megabytes that the process has had at most (VmHWM of proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def _move_due(state: Path, behind: float) -> None:
    with sqlite3.connect(state / "mail" / "queue.sqlite", isolation_level=None) as queue:
        queue.execute("UPDATE recipient SET due = round(due - ?, 3)", (behind,))
    queue.close()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="dcrouter-startup-") as directory:
        for what, behind in (("later", 0.0), ("now", 100_000.0)):
            print(f"{count} recipients, all due {what}", flush=True)
            measure(Path(directory), count, 36_000.0, behind)


if __name__ == "__main__":
    main()
