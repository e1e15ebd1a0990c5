"""Files that the configuration names: opened so that nothing but a file is read, and nothing waits.

A pipe or a terminal named by mistake would keep `check` waiting for somebody to write into it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_named(path: Path, most: int) -> bytes | str:
    """The bytes of a regular file (or what a link leads to), or what is wrong with it; `most`: bytes."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(opened, "rb") as file:
            mode = os.fstat(opened).st_mode
            if not stat.S_ISREG(mode):
                return f"{path} is {'a directory, not a file' if stat.S_ISDIR(mode) else 'not a file'}"
            data = file.read(most + 1)
    except OSError as error:
        return f"{path} cannot be read: {(error.strerror or str(error)).lower()}"
    return data if len(data) <= most else f"{path} is larger than {_written(most)}"


def _written(count: int) -> str:
    return f"{count >> 20} MB" if count >= 1 << 20 else f"{count >> 10} KB"
