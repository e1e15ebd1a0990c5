"""Files and directories that outlive a power loss: a name is durable once the directory that holds it has been fsynced.

An fsync of a file or of a new directory says nothing about its own name (fsync(2)). That a directory is there does not
mean that its name is durable: whoever made it may have been killed before its fsync, or be at it in another thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from functools import lru_cache
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable. Blocks; OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Makes a directory where it is missing, and those above it; then the names of all of them are durable.

    Blocks: for each that was there, once in the life of this process. OSError; FileExistsError where a file is in its
    place. A directory above that we may not read is not ours to make durable, and passed over.
    """
    path = path.absolute()
    chain = [path, *path.parents][:-1]
    missing = [one for one in chain if not one.exists()]
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    for one in missing:
        sync_directory(one.parent)
    for one in chain[len(missing) :]:
        _named(one)


def write_whole(path: Path, content: bytes, mode: int, *, durable: bool = True) -> None:
    """The whole file or the old one, with `mode` from its first byte; durable, so that no later one outlives it.

    `durable` False: it may be lost, or empty, after a power loss, and is made anew then. Blocks; OSError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_directory(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def lock(path: Path) -> int:
    """A descriptor that keeps others from the same as long as it is open (flock(2)); BlockingIOError where another
    process does, OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@lru_cache(maxsize=16384)
def _named(path: Path) -> None:
    with contextlib.suppress(PermissionError):
        sync_directory(path.parent)
