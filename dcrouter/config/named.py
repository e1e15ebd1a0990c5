"""Files that the configuration names: opened so that nothing but a file is read, and nothing waits.

A pipe or a terminal named by mistake would keep `check` waiting for somebody to write into it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dcrouter.errors import reason_of


def read_named(path: Path, most: int) -> bytes | str:
    """The bytes of a regular file (or what a link leads to), or what is wrong with it; `most`: bytes."""
    try:
        with open(path, "rb", opener=not_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return f"{path} is not a file"
            data = file.read(most + 1)
    except IsADirectoryError:
        return f"{path} is a directory, not a file"
    except OSError as error:
        return f"{path} cannot be read: {reason_of(error).lower()}"
    return data if len(data) <= most else f"{path} is larger than {_written(most)}"


def not_waiting(path: str, flags: int) -> int:
    """The opener (of `open`) of what may be a pipe; a descriptor."""
    return os.open(path, flags | os.O_NONBLOCK)


def _written(count: int) -> str:
    return f"{count >> 20} MB" if count >= 1 << 20 else f"{count >> 10} KB"
