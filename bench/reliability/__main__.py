"""`python -m bench.reliability`: kill the service at every point of a message's life and count what was acknowledged.

The progress is in a file, so an interrupted run goes on where it stood. Exit code: 0 when nothing was lost, damaged, or
doubled without need; 1 when something was; 2 for a wrong word.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from random import Random

from bench.process import raise_descriptor_limit
from bench.reliability import plan
from bench.reliability.rounds import batch
from tests.support import fuse


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.reliability", description="Kill dcrouter and count its mail."
    )
    parser.add_argument("--kills", type=int, default=200, help="at each point, half of them of the whole service [200]")
    parser.add_argument("--points", default=",".join(plan.POINTS), help=f"some of {', '.join(plan.POINTS)} [all]")
    parser.add_argument("--seed", type=int, default=1, help="of all that is left to chance [1]")
    parser.add_argument("--batch", type=int, default=30, help="kills between two times that all mail is counted [30]")
    parser.add_argument("--nice", type=int, default=0, help="added to the priority of everything [0]")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no further batch after this time [no limit]")
    parser.add_argument(
        "--state", type=Path, default=Path("reliability.json"), help="file of the progress [reliability.json]"
    )
    parsed = parser.parse_args()
    for word in parsed.points.split(","):
        if word not in plan.POINTS:
            parser.error(f"no point is called {word!r}: {', '.join(plan.POINTS)}")
    if parsed.kills < 1 or parsed.batch < 1:
        parser.error("there is at least one kill, and a batch has at least one")
    return parsed


def main() -> int:
    asked = _arguments()
    if missing := fuse.obstacle():
        print(missing)
        return 1
    os.nice(asked.nice)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended
    raise_descriptor_limit()
    points = asked.points.split(",")
    progress = plan.Progress.load(asked.state, asked.seed)
    began = time.monotonic()
    while (left := plan.outstanding(points, asked.kills, progress)) and time.monotonic() < began + asked.seconds:
        before = time.monotonic()
        figures, missed, complaints = asyncio.run(
            batch(left[: asked.batch], Random(f"{progress.seed}/{progress.batches}/x"), refusals="dsn" in points)
        )
        progress.add(figures)
        progress.batches += 1
        progress.seconds += time.monotonic() - before
        progress.save(asked.state)
        for complaint in complaints[:20]:
            print(complaint, flush=True)
        total, done = progress.total(), min(asked.batch, len(left)) - len(missed)
        print(
            f"{len(left) - done} to go; {total.kills} kills in {progress.seconds:.0f} s, {total.missed} missed; "
            f"{total.acknowledged} acknowledged, {total.untold} kept and untold, {total.again} again, "
            f"{total.doubled} doubled, {total.damaged} damaged, {total.lost} lost",
            flush=True,
        )
        if not done:
            print("no kill has come to its point: something else is wrong")
            return 1
    print("\n" + plan.table(progress, points))
    return 0 if progress.total().good else 1


if __name__ == "__main__":
    sys.exit(main())
