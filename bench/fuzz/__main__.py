"""Coverage-guided fuzzing (atheris, libFuzzer) of what reads strangers' bytes: `pip install atheris`, then

    nice -n 19 python -m bench.fuzz [--seconds 120] [--corpus DIRECTORY] [TARGET ...]

Each target runs for so long in a process of its own, one after the other. It fails on any exception but WireError, on
a broken promise (see each target), on memory beyond 512 MB, and on an input that takes ten seconds. What fails is kept
in the corpus directory, as libFuzzer names it; exit code 1.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

LONGEST = 8192
"""Octets of an input."""

HALVES = ("bench.fuzz.edge", "bench.fuzz.mail")
"""Where targets are: `TARGETS`, by their names, and `SEEDS` for each, what it begins with."""


def _all(word: str) -> dict[str, Any]:
    return {name: value for half in HALVES for name, value in getattr(import_module(half), word).items()}


def _one(target: str, seconds: int, corpus: str) -> None:
    """In a process of its own: does not return."""
    import atheris

    with atheris.instrument_imports(include=["dcrouter.wire", "dcrouter.net.dns", "dns"]):
        targets = _all("TARGETS")
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=10", "-rss_limit_mb=512"]
    atheris.Setup([target, *limits, "-print_final_stats=1", f"-artifact_prefix={corpus}/", corpus], targets[target])
    atheris.Fuzz()


def main() -> int:
    """Runs what is asked for, prints a line for each target."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="what reads (see bench/fuzz) [all]")
    parser.add_argument("--seconds", type=int, default=120, help="for each target [120]")
    parser.add_argument("--corpus", type=Path, help="where inputs are kept [a directory that goes]")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        _one(asked.targets[0], asked.seconds, str(asked.corpus))
    seeds: dict[str, tuple[bytes, ...]] = _all("SEEDS")
    for word in asked.targets:
        if word not in seeds:
            parser.error(f"no target is called {word!r}: {', '.join(seeds)}")
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        for target in asked.targets or seeds:
            corpus = (asked.corpus or Path(temporary)) / target
            corpus.mkdir(parents=True, exist_ok=True)
            for number, seed in enumerate(seeds[target]):
                (corpus / f"seed{number}").write_bytes(seed)
            began = time.monotonic()
            command = [sys.executable, "-m", "bench.fuzz", target, "--inside"]
            done = subprocess.run(
                [*command, "--seconds", str(asked.seconds), "--corpus", str(corpus)], capture_output=True, text=True
            )
            tried = re.search(r"number_of_executed_units: (\d+)", done.stderr)
            inputs, spent = int(tried[1]) if tried else 0, round(time.monotonic() - began)
            print(f"{target}: {inputs} inputs in {spent} s, {'FAILED' if done.returncode else 'ok'}", flush=True)
            if done.returncode:
                failed = True
                print(done.stdout[-4000:], done.stderr[-4000:], file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
