"""`python -m bench`: list the rows; `python -m bench all` or `python -m bench ROW ...`: measure them.

Exit code: 0 when what was asked for was measured or skipped with its reason, whatever the figures; 2 for a wrong word.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from bench import load, mta, peers, report, rounds
from bench.backend import make_bulk, make_certificate
from bench.machine import cores, noise
from bench.mailrows import MAIL_ROWS, MailRow
from bench.process import raise_descriptor_limit
from bench.rows import ROWS, Row

_SIDES = tuple(dict.fromkeys((*peers.NAMES, *mta.NAMES)))
_ALL: tuple[Row | MailRow, ...] = (*ROWS, *MAIL_ROWS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure dcrouter beside its peers.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names of rows, or all, or mail; none: list them")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one turn [3]")
    parser.add_argument("--repeat", type=int, default=3, help="turns per side; the median is shown [3]")
    parser.add_argument("--sides", default=",".join(_SIDES), help="which sides, separated by commas [all]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every turn to this file as well")
    parsed = parser.parse_args()
    known = ["all", "mail", *(row.name for row in _ALL)]
    for word in parsed.rows:
        if word not in known:
            parser.error(f"no row is called {word!r}; python -m bench lists them")
    for word in parsed.sides.split(","):
        if word not in _SIDES:
            parser.error(f"no side is called {word!r}: {', '.join(_SIDES)}")
    if parsed.seconds < 1 or parsed.repeat < 1:
        parser.error("a turn has at least 1 second, and there is at least one")
    return parsed


def _is_mail(row: Row | MailRow, words: list[str]) -> bool:
    return "mail" in words and isinstance(row, MailRow)


def main() -> int:
    asked = _arguments()
    if not asked.rows:
        print(report.catalogue())
        return 0
    rows = [row for row in _ALL if "all" in asked.rows or row.name in asked.rows or _is_mail(row, asked.rows)]
    only_mail = all(isinstance(row, MailRow) for row in rows)
    if not only_mail and (missing := load.obstacle()):
        print(missing)
        return 1
    sides = []
    for name in asked.sides.split(","):
        reason = (peers if name in peers.NAMES else mta).obstacle(name)
        if reason is None:
            sides.append(name)
        else:
            print(f"{name} is left out: {reason}")
    raise_descriptor_limit()
    options = rounds.Options(seconds=asked.seconds, repeat=asked.repeat, sides=sides, cores=cores())
    print(report.machine(), flush=True)
    begin, before = time.monotonic(), noise()
    results: list[rounds.Result] = []
    with tempfile.TemporaryDirectory(prefix="dcrouter-bench-") as directory:
        data = Path(directory)
        certificate = make_certificate(data)
        if not only_mail:
            make_bulk(data)
        for row in rows:
            if not results or type(results[-1].row) is not type(row):
                print(report.head(row))
            results.append(rounds.run(row, options, certificate, data))
            print(report.table(results[-1]), flush=True)
    print(f"\n{time.monotonic() - begin:.0f} s; {noise().since(before)}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(report.as_plain(results), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
