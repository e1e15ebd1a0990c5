"""Fails if a test was skipped for want of a real peer: `python .ci/skipped.py junit.xml`.

Elsewhere such a test may skip; here every program it asks for is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

REASON = "needs a real peer"
"""How tests/support/peers.py begins its reason."""


def missing(report: Path) -> list[str]:
    """`test: reason` of each such test; ValueError where the report has no test at all."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    if not cases:
        raise ValueError(f"{report} reports no test")
    return [
        f"{case.get('classname')}.{case.get('name')}: {skip.get('message')}"
        for case in cases
        for skip in case.iter("skipped")
        if REASON in f"{skip.get('message')} {skip.text}"
    ]


if __name__ == "__main__":
    skipped = missing(Path(sys.argv[1]))
    print("\n".join(skipped) or "no test was skipped for want of a real peer")
    sys.exit(bool(skipped))
