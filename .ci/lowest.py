"""Writes the lowest versions that setup.cfg allows as constraints for pip: `python .ci/lowest.py [FILE]`."""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from pathlib import Path

_BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*>=\s*(?P<version>[0-9.]+)")


def lowest(setup: Path) -> list[str]:
    """`name==version` for each dependency of the package and of its tests; ValueError where one has no lower bound."""
    config = ConfigParser()
    config.read_string(setup.read_text("utf-8"))
    wanted = config["options"]["install_requires"] + config["options.extras_require"]["test"]
    found = []
    for line in filter(None, map(str.strip, wanted.splitlines())):
        bound = _BOUND.fullmatch(line)
        if bound is None:
            raise ValueError(f"{setup}: {line!r} is not of the form `name >= version`")
        found.append(f"{bound['name']}=={bound['version']}")
    return found


if __name__ == "__main__":
    constraints = "\n".join(lowest(Path(__file__).resolve().parent.parent / "setup.cfg")) + "\n"
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(constraints, "utf-8")
    else:
        sys.stdout.write(constraints)
