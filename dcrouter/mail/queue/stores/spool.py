"""Spool files as the stores see them: what an earlier run left, and the beginning of one. All of it blocks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dcrouter.mail.message import spool_path


def listed(directory: Path) -> list[int]:
    """The ids of the messages that have a file here, in no order; other files are nobody's."""
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            name = entry.name
            if name.endswith(".eml"):
                try:
                    found.append(int(name[:-4], 16))
                except ValueError:
                    continue
    return found


def remove(directory: Path, messages: Iterable[int]) -> None:
    """Removes these files; one that has gone already is no error."""
    for message in messages:
        spool_path(directory, message).unlink(missing_ok=True)


def beginning(directory: Path, message: int, size: int) -> bytes:
    """The first octets of a spool file. Raises OSError."""
    with spool_path(directory, message).open("rb", buffering=0) as file:
        return os.pread(file.fileno(), size, 0)
