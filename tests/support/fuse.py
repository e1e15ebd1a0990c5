"""A Disk mounted where real programs find it: the kernel's FUSE protocol (7.31, <linux/fuse.h>), and nothing around it.

    with Mounted(disk, directory): ...

One thread answers one request after the other. The kernel writes through (no writeback cache), so each write(2) is a
request of its own when it returns; what was written to a mapping comes when the kernel likes, or at fsync. Locks stay
in the kernel. fusermount3 mounts, for root and for others; it takes the mount away again when this process dies.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from unittest import SkipTest

from tests.support.disk import Disk, Node
from tests.support.peers import require

_HEADER = struct.Struct("<IIQQIIIHH")
_ANSWER = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
_VALID = struct.Struct("<QII")
_INIT = struct.Struct("<IIIIHHIIHHI28x")
_OPENED = struct.Struct("<QII")
_WRITE = struct.Struct("<QQIIQII")
_SETATTR = struct.Struct("<IIQQQQQQIIIIIIII")
_STATFS = struct.Struct("<QQQQQIII28x")
_DIRENT = struct.Struct("<QQII")

_MAX_WRITE = 1 << 20
_BIG_WRITES, _ATOMIC_O_TRUNC, _MAX_PAGES = 1 << 5, 1 << 3, 1 << 22
_FOR_LONG = 3600  # seconds that the kernel may keep names and attributes: nobody changes them behind its back
_BUSY = 60.0  # seconds
_MODE, _UID, _GID, _SIZE = 1, 2, 4, 8


def obstacle() -> str | None:
    """Why nothing can be mounted here, or None."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs a real peer: /dev/fuse is not here, or not for us"
    try:
        require("fusermount3")
    except SkipTest as missing:
        return str(missing)
    return None


class Mounted:
    """A disk at a directory that exists and is empty. Made: mounted. `close`: nobody may have a file open there."""

    def __init__(self, disk: Disk, at: Path) -> None:
        missing = obstacle()
        if missing is not None:
            raise SkipTest(missing)
        self.disk = disk
        self.at = at
        self._program = require("fusermount3")
        self._fd, self._tie, self._keeper = self._mount()
        # The kernel does not say that it is over where somebody's mount namespace still has a copy of the mount.
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=_Server(disk, self._fd, self._stop).run, name="fuse", daemon=True)
        self._thread.start()

    def __enter__(self) -> Mounted:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Unmounts; by force where files stay open, and then says so by CalledProcessError."""
        deadline = time.monotonic() + _BUSY
        while (done := self._unmount("-u")).returncode and time.monotonic() < deadline:
            time.sleep(0.01)  # the kernel closes the files of a process that was killed when it likes
        if done.returncode:
            self._unmount("-uz")
        self._tie.close()
        self._keeper.wait(120)
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)
        os.close(self._fd)
        done.check_returncode()

    def _unmount(self, how: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([self._program, how, "--", str(self.at)], capture_output=True, timeout=240, check=False)

    def _mount(self) -> tuple[int, socket.socket, subprocess.Popen[bytes]]:
        """The protocol of mount.fuse and fusermount: it mounts, and passes the descriptor of /dev/fuse back."""
        ours, theirs = socket.socketpair()
        with theirs:
            keeper = subprocess.Popen(
                [self._program, "-o", "rw,auto_unmount,default_permissions,fsname=forgetful", "--", str(self.at)],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        ours.settimeout(120)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if not fds:
            _, words = keeper.communicate(timeout=240)
            ours.close()
            raise SkipTest(f"needs a real peer: fusermount3: {words.decode().strip()}")
        assert keeper.stderr is not None
        keeper.stderr.close()
        os.set_inheritable(fds[0], False)
        return fds[0], ours, keeper


class _Server:
    def __init__(self, disk: Disk, fd: int, stop: int) -> None:
        self._disk = disk
        self._fd = fd
        self._stop = stop
        self._buffer = bytearray(_MAX_WRITE + 65536)
        self._duties: dict[int, Callable[[Node, memoryview], bytes]] = {
            1: self._lookup, 3: self._getattr, 4: self._setattr, 8: self._mknod, 9: self._mkdir,
            10: self._remove, 11: self._remove, 12: self._rename, 14: self._open, 15: self._read, 16: self._write,
            17: self._statfs, 18: self._nothing, 20: self._sync, 27: self._opendir, 28: self._readdir,
            29: self._nothing, 30: self._sync, 35: self._create, 38: self._nothing, 45: self._rename2,
        }  # fmt: skip

    def run(self) -> None:
        os.set_blocking(self._fd, False)
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        waiting.register(self._stop, select.POLLIN)
        view = memoryview(self._buffer)
        while True:
            try:
                length = os.readv(self._fd, [self._buffer])
            except BlockingIOError:
                if any(fd == self._stop for fd, _ in waiting.poll()):
                    break
                continue
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                break  # ENODEV: unmounted
            _, opcode, unique, number, uid, gid, *_ = _HEADER.unpack_from(view)
            body = view[_HEADER.size : length]
            if opcode == 26:
                flags = _BIG_WRITES | _ATOMIC_O_TRUNC | _MAX_PAGES
                self._say(unique, 0, _INIT.pack(7, 31, 1 << 17, flags, 16, 12, _MAX_WRITE, 1, 256, 0, 0))
            elif opcode in (2, 42):
                self._forget(opcode, number, body)
            elif opcode != 36:  # INTERRUPT: nothing takes long here
                self._owner = (uid, gid)
                self._do(opcode, unique, number, body)

    def _do(self, opcode: int, unique: int, number: int, body: memoryview) -> None:
        duty = self._duties.get(opcode)
        node = self._disk.nodes.get(number)
        try:
            if duty is None:
                raise OSError(errno.ENOSYS, "")
            if node is None and opcode != 38:
                raise OSError(errno.ESTALE, "")
            answer = duty(node or self._disk.root, body)
        except OSError as error:
            self._say(unique, error.errno or errno.EIO, b"")
        else:
            self._say(unique, 0, answer)

    def _say(self, unique: int, error: int, answer: bytes) -> None:
        with contextlib.suppress(OSError):  # whoever asked is gone
            os.writev(self._fd, [_ANSWER.pack(_ANSWER.size + len(answer), -error, unique), answer])

    # ------------------------------------------------------------------ names

    def _lookup(self, parent: Node, body: memoryview) -> bytes:
        try:
            return self._entry((parent.names or {})[_name(body)])
        except KeyError:
            raise OSError(errno.ENOENT, "") from None

    def _mknod(self, parent: Node, body: memoryview) -> bytes:
        (mode,) = struct.unpack_from("<I", body)
        if not (stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
            raise OSError(errno.EPERM, "")
        return self._entry(self._disk.make(parent, _name(body[16:]), mode, self._owner))

    def _mkdir(self, parent: Node, body: memoryview) -> bytes:
        (mode,) = struct.unpack_from("<I", body)
        node = self._disk.make(parent, _name(body[8:]), stat.S_IFDIR | stat.S_IMODE(mode), self._owner)
        return self._entry(node)

    def _create(self, parent: Node, body: memoryview) -> bytes:
        (mode,) = struct.unpack_from("<I", body, 4)
        node = self._disk.make(parent, _name(body[16:]), mode, self._owner)
        return self._entry(node) + _OPENED.pack(0, 0, 0)

    def _remove(self, parent: Node, body: memoryview) -> bytes:
        self._disk.remove(parent, _name(body))
        return b""

    def _rename(self, parent: Node, body: memoryview) -> bytes:
        (to,) = struct.unpack_from("<Q", body)
        old, new = bytes(body[8:]).rstrip(b"\0").split(b"\0")
        self._disk.rename(parent, old.decode(), self._disk.nodes[to], new.decode())
        return b""

    def _rename2(self, parent: Node, body: memoryview) -> bytes:
        if any(body[8:12]):
            raise OSError(errno.EINVAL, "")
        return self._rename(parent, memoryview(bytes(body[:8]) + bytes(body[16:])))

    def _forget(self, opcode: int, number: int, body: memoryview) -> None:
        (count,) = struct.unpack_from("<Q" if opcode == 2 else "<I", body)
        batch = [(number, count)] if opcode == 2 else struct.iter_unpack("<QQ", body[8 : 8 + 16 * count])
        for one, lookups in batch:
            if one in self._disk.nodes:
                self._disk.forget(self._disk.nodes[one], lookups)

    def _readdir(self, node: Node, body: memoryview) -> bytes:
        _, at, size = struct.unpack_from("<QQI", body)
        listing = list((node.names or {}).items())
        answer = b""
        for index in range(at, len(listing)):
            name, child = listing[index]
            raw = name.encode()
            entry = _DIRENT.pack(child.number, index + 1, len(raw), stat.S_IFMT(child.mode) >> 12) + raw
            entry += bytes(-len(entry) % 8)
            if len(answer) + len(entry) > size:
                break
            answer += entry
        return answer

    # ------------------------------------------------------------------ contents and attributes

    def _getattr(self, node: Node, body: memoryview) -> bytes:
        return _VALID.pack(_FOR_LONG, 0, 0) + _attributes(node)

    def _setattr(self, node: Node, body: memoryview) -> bytes:
        fields = _SETATTR.unpack_from(body)
        valid, size, mode, uid, gid = fields[0], fields[3], fields[11], fields[13], fields[14]
        if valid & _SIZE:
            self._disk.resize(node, size)
        if valid & _MODE:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        node.owner = (uid if valid & _UID else node.owner[0], gid if valid & _GID else node.owner[1])
        return self._getattr(node, body)

    def _open(self, node: Node, body: memoryview) -> bytes:
        (flags,) = struct.unpack_from("<I", body)
        if flags & os.O_TRUNC and node.size:
            self._disk.resize(node, 0)
        return _OPENED.pack(0, 0, 0)

    def _opendir(self, node: Node, body: memoryview) -> bytes:
        return _OPENED.pack(0, 0, 0)

    def _read(self, node: Node, body: memoryview) -> bytes:
        _, at, size = struct.unpack_from("<QQI", body)
        assert node.content is not None
        return bytes(memoryview(node.content)[at : at + size])

    def _write(self, node: Node, body: memoryview) -> bytes:
        _, at, size, *_ = _WRITE.unpack_from(body)
        self._disk.write(node, at, bytes(body[_WRITE.size : _WRITE.size + size]))
        return struct.pack("<II", size, 0)

    def _sync(self, node: Node, body: memoryview) -> bytes:
        self._disk.sync(node)
        return b""

    def _statfs(self, node: Node, body: memoryview) -> bytes:
        free = max(self._disk.size - self._disk.used, 0) // 4096
        return _STATFS.pack(self._disk.size // 4096, free, free, 1 << 20, 1 << 20, 4096, 255, 4096)

    def _nothing(self, node: Node, body: memoryview) -> bytes:
        return b""

    def _entry(self, node: Node) -> bytes:
        node.lookups += 1
        return _ENTRY.pack(node.number, 0, _FOR_LONG, _FOR_LONG, 0, 0) + _attributes(node)


def _attributes(node: Node) -> bytes:
    when = int(node.changed)
    blocks = (node.size + 511) // 512
    links = 2 if node.names is not None else max(node.links, 0)
    return _ATTRIBUTES.pack(
        node.number, node.size, blocks, when, when, when, 0, 0, 0, node.mode, links, *node.owner, 0, 4096, 0
    )


def _name(body: memoryview) -> str:
    return bytes(body).split(b"\0", 1)[0].decode()
