"""`python -m bench.integrity`: exchanges by chance through the whole service, and whether an octet of them is wrong.

Exit code: 0 when nothing was wrong; 1 when something was, with a line for each; 2 for a wrong word.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from bench.integrity.service import EXCHANGES, Options
from bench.integrity.tally import Tally
from bench.process import raise_descriptor_limit


def main() -> int:
    """Runs what is asked for, prints a line for each kind."""
    parser = argparse.ArgumentParser(prog="python -m bench.integrity", description="Compare each octet that passes.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"some of {', '.join(EXCHANGES)} [all]")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each kind [60]")
    parser.add_argument("--seed", type=int, default=1, help="of all that is left to chance [1]")
    parser.add_argument("--at-once", type=int, default=8, help="clients [8]")
    parser.add_argument("--reloads", action="store_true", help="read the configuration again each second")
    asked = parser.parse_args()
    for word in asked.kinds:
        if word not in EXCHANGES:
            parser.error(f"no kind is called {word!r}: {', '.join(EXCHANGES)}")
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of writes behind a reset, of which there are many
    raise_descriptor_limit()
    options = Options(seed=asked.seed, seconds=asked.seconds, at_once=asked.at_once, reloads=asked.reloads)
    wrong = False
    for kind in asked.kinds or EXCHANGES:
        tally = Tally()
        asyncio.run(EXCHANGES[kind](options, tally))
        print(tally.line(kind), *tally.wrong, sep="\n  ", flush=True)
        wrong = wrong or bool(tally.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
