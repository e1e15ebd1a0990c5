"""Files under a directory, opened so that nothing leads out of it, and so that the engine is not held up.

1. openat2(2) with RESOLVE_BENEATH: neither `..` nor a link leads out of the directory, whoever changes it meanwhile.
2. RESOLVE_CACHED first: where the kernel has the whole way in memory the file is open at once, in a microsecond or two;
   else it says so (EAGAIN) instead of asking a disk, and the same is done in a thread.
3. Contents likewise: what is in the page cache is read or sent at once; RWF_NOWAIT tells what is not, and that is read
   by a thread first.

Where openat2 is missing (Linux before 5.6, some sandboxes) each part of the way is opened in a thread, and no link is
followed.
"""

from __future__ import annotations

import ctypes
import errno
import os

from dcrouter.net.engine import Task
from dcrouter.net.threads import Threads

_OPENAT2 = 437
_AT_FDCWD = -100
_NO_MAGICLINKS, _BENEATH, _CACHED = 0x02, 0x08, 0x20
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Not waiting for the other end of a pipe that lies there by mistake."""
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_TRIES = 3
"""Times that a way is walked while somebody renames parts of it."""

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_missing = False


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


async def open_beneath(threads: Threads, task: Task, root: str, way: str) -> int:
    """A descriptor of the file (or directory) at `way` under `root`, the caller's own. `way`: relative, of plain parts.

    OSError where there is none: EXDEV where it leads out of `root`.
    """
    if not _missing:
        try:
            return _open(root, way, _CACHED)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOSYS, errno.EPERM, errno.EINVAL):
                raise
    return await threads.call(task, _open_slowly, root, way, discard=os.close)


async def read(threads: Threads, task: Task, fd: int, size: int, offset: int) -> bytes:
    """Up to `size` octets, fewer only at the file's end."""
    buffer = bytearray(size)
    try:
        if os.preadv(fd, [buffer], offset, os.RWF_NOWAIT) == size:
            return bytes(buffer)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL):
            raise
    return await threads.call(task, os.pread, fd, size, offset)


async def fetch(threads: Threads, task: Task, fd: int, size: int, offset: int) -> None:
    """Have these octets in memory, so that a read or sendfile(2) of them does not wait for a disk."""
    one = bytearray(1)
    try:
        if all(os.preadv(fd, [one], at, os.RWF_NOWAIT) >= 0 for at in (offset, offset + size - 1)):
            return
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL):
            raise
    await threads.call(task, os.pread, fd, size, offset)


def _open(root: str, way: str, resolve: int) -> int:
    directory = _openat2(_AT_FDCWD, root, _DIRECTORY, resolve)
    try:
        return _openat2(directory, way, _FILE, resolve | _BENEATH | _NO_MAGICLINKS)
    finally:
        os.close(directory)


def _openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    how = _How(flags, 0, resolve)
    fd: int = _syscall(_OPENAT2, directory, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return fd


def _open_slowly(root: str, way: str) -> int:
    """In a thread."""
    global _missing
    for tried in range(_TRIES):
        try:
            return _open(root, way, 0)
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
                _missing = True
                break
            if error.errno != errno.EAGAIN or tried == _TRIES - 1:
                raise
    return walk(root, way)


def walk(root: str, way: str) -> int:
    """As `open_beneath`, part by part, in a thread: ELOOP (or ENOTDIR) for links."""
    fd = os.open(root, _DIRECTORY)
    *before, last = way.split("/")
    try:
        for part in before:
            further = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = further
        return os.open(last, _FILE | os.O_NOFOLLOW, dir_fd=fd)
    finally:
        os.close(fd)
