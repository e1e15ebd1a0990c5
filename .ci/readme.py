"""Prints the command of README.md that stands behind a marker: `python .ci/readme.py "test command"`.

The marker is `<!-- test command -->`, and the command the code block that follows it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def command(readme: str, marker: str) -> str:
    """The shell text of the first code block behind the marker; ValueError where there is none."""
    found = re.search(rf"<!-- {re.escape(marker)} -->\s*```(?:sh|bash|console)?\n(.+?)\n```", readme, re.DOTALL)
    if found is None:
        raise ValueError(f"README.md has no code block behind <!-- {marker} -->")
    return found[1]


if __name__ == "__main__":
    print(command((Path(__file__).resolve().parent.parent / "README.md").read_text("utf-8"), sys.argv[1]))
