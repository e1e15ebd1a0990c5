"""A disk in memory that knows what of it is durable: what a power loss leaves is what was synced, and nothing else.

1. A write, a new name, a rename, a removal is live at once, and durable only after an fsync of the file that was
   written, or of the directory whose names changed. POSIX promises no more, and a file system that does more may not
   always do so.
2. `off` is the moment of the power loss: nothing is done any more. `lose` then makes what was durable all there is,
   or, with a random generator, keeps an arbitrary part of the rest as well (pages of files and names, each for itself),
   as a disk may have written them in any order.
3. What was written before a sync that failed is as good as lost: a later sync that succeeds says nothing about it.
4. `before` and `after`, where set, see each change: the former may refuse it with an errno, the latter runs when it has
   been done and whoever asked for it does not know yet. They run in the thread of the file system.
"""

from __future__ import annotations

import errno
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from attrs import define, field

PAGE = 4096


class Change(NamedTuple):
    """`kind`: write, sync, create, mkdir, remove, rename, resize. `path`: from the root of the disk, without a leading
    slash. `data`: what is written."""

    kind: str
    path: str
    data: bytes = b""


@define(eq=False)
class Node:
    """A file (`content`) or a directory (`names`); both None: a socket. `number` is its inode."""

    number: int
    mode: int
    owner: tuple[int, int]
    path: str
    content: bytearray | None = None
    names: dict[str, Node] | None = None
    durable: bytearray = field(factory=bytearray)
    durable_names: dict[str, Node] = field(factory=dict)
    dirty: set[int] = field(factory=set)
    changed: float = field(factory=time.time)
    links: int = 1
    lookups: int = 0

    @property
    def size(self) -> int:
        return len(self.content) if self.content is not None else 0

    def write(self, at: int, data: bytes) -> None:
        assert self.content is not None
        if at > len(self.content):
            self.resize(at)
        self.content[at : at + len(data)] = data
        self.dirty.update(range(at // PAGE, (at + len(data) - 1) // PAGE + 1))
        self.changed = time.time()

    def resize(self, size: int) -> None:
        assert self.content is not None
        low, high = sorted((size, len(self.content)))
        _fit(self.content, size)
        self.dirty.update(range(low // PAGE, high // PAGE + 1))
        self.changed = time.time()

    def sync(self) -> None:
        """All of it is durable."""
        if self.names is not None:
            self.durable_names = dict(self.names)
        if self.content is not None:
            _fit(self.durable, len(self.content))
            for page in self.dirty:
                self.durable[page * PAGE : (page + 1) * PAGE] = self.content[page * PAGE : (page + 1) * PAGE]
            self.dirty.clear()

    def lose(self, random: Random | None) -> None:
        """Only what is durable is left; with `random` some of the rest too."""
        if self.names is not None:
            left = dict(self.durable_names)
            if random is not None:
                for name in sorted({*self.names, *left}):
                    if self.names.get(name) is not left.get(name) and random.random() < 0.5:
                        _put(left, name, self.names.get(name))
            self.names = left
            self.durable_names = dict(left)
        if self.content is not None:
            left_content = bytearray(self.durable)
            if random is not None and (self.dirty or len(left_content) != len(self.content)):
                _fit(left_content, random.choice((len(self.durable), len(self.content))))
                for page in sorted(self.dirty):
                    at = page * PAGE
                    if random.random() < 0.5 and at < len(left_content):
                        piece = self.content[at : at + PAGE][: len(left_content) - at]
                        left_content[at : at + len(piece)] = piece
            self.content = left_content
            self.durable = bytearray(left_content)
            self.dirty.clear()


class Disk:
    """`size`: its octets; a write beyond them is ENOSPC, as it is on a full disk."""

    def __init__(self, size: int = 1 << 32) -> None:
        self.size = size
        self.before: Callable[[Change], int | None] | None = None
        self.after: Callable[[Change], None] | None = None
        self.power = True
        self._numbers = 1
        self.root = Node(1, stat.S_IFDIR | 0o755, (0, 0), "", names={})
        self.nodes = {1: self.root}

    def off(self) -> None:
        """The power is gone: whatever is asked of the disk from now on fails and changes nothing."""
        self.power = False

    def lose(self, random: Random | None = None) -> None:
        """After `off`, when nobody has it mounted any more: what is found when the power is back."""
        seen = {1: self.root}
        for node in self._walk(random):
            seen[node.number] = node
        self.nodes = seen
        self.power = True

    def _walk(self, random: Random | None) -> Iterator[Node]:
        todo = [self.root]
        while todo:
            node = todo.pop()
            node.lose(random)
            node.lookups = 0
            yield node
            for name, child in (node.names or {}).items():
                child.path = f"{node.path}/{name}".lstrip("/")
                child.links = 1
                todo.append(child)

    def read(self, path: str) -> bytes:
        """What is in a file now, durable or not; FileNotFoundError."""
        content = self.find(path).content
        assert content is not None
        return bytes(content)

    def find(self, path: str) -> Node:
        node = self.root
        for part in filter(None, path.split("/")):
            try:
                node = (node.names or {})[part]
            except KeyError:
                raise FileNotFoundError(errno.ENOENT, path) from None
        return node

    def copy(self, path: str, to: Path) -> None:
        """A directory and all that is in it, written to a real one."""
        to.mkdir(parents=True, exist_ok=True)
        for name, child in list((self.find(path).names or {}).items()):
            if child.content is not None:
                (to / name).write_bytes(child.content)
            elif child.names is not None:
                self.copy(f"{path}/{name}", to / name)

    @property
    def used(self) -> int:
        return sum(node.size for node in list(self.nodes.values()))

    # ------------------------------------------------------------------ changes; each OSError is the answer

    def write(self, node: Node, at: int, data: bytes) -> None:
        self._ask("write", node.path, data)
        if self.size < 1 << 32 and self.used + max(at + len(data) - node.size, 0) > self.size:
            raise OSError(errno.ENOSPC, node.path)
        node.write(at, data)
        self._done("write", node.path, data)

    def resize(self, node: Node, size: int) -> None:
        self._ask("resize", node.path)
        node.resize(size)
        self._done("resize", node.path)

    def sync(self, node: Node) -> None:
        try:
            self._ask("sync", node.path)
        except OSError:
            if self.power:
                node.dirty.clear()  # as Linux does: said once, and a later sync knows nothing of these pages
            raise
        node.sync()
        self._done("sync", node.path)

    def make(self, parent: Node, name: str, mode: int, owner: tuple[int, int]) -> Node:
        """A new file, directory or socket, by `mode`."""
        assert parent.names is not None
        kind = "mkdir" if stat.S_ISDIR(mode) else "create"
        path = f"{parent.path}/{name}".lstrip("/")
        self._ask(kind, path)
        if name in parent.names:
            raise OSError(errno.EEXIST, path)
        self._numbers += 1
        node = Node(self._numbers, mode, owner, path)
        if stat.S_ISDIR(mode):
            node.names = {}
        elif stat.S_ISREG(mode):
            node.content = bytearray()
        parent.names[name] = self.nodes[node.number] = node
        self._done(kind, path)
        return node

    def remove(self, parent: Node, name: str) -> None:
        node = self._child(parent, name)
        self._ask("remove", node.path)
        if node.names:
            raise OSError(errno.ENOTEMPTY, node.path)
        assert parent.names is not None
        del parent.names[name]
        node.links -= 1
        self.forget(node, 0)
        self._done("remove", node.path)

    def rename(self, parent: Node, name: str, to: Node, new: str) -> None:
        node = self._child(parent, name)
        self._ask("rename", node.path)
        assert parent.names is not None and to.names is not None
        replaced = to.names.get(new)
        del parent.names[name]
        to.names[new] = node
        node.path = f"{to.path}/{new}".lstrip("/")
        if replaced is not None and replaced is not node:
            replaced.links -= 1
            self.forget(replaced, 0)
        self._done("rename", node.path)

    def forget(self, node: Node, lookups: int) -> None:
        """The kernel knows it by so many names less."""
        node.lookups -= lookups
        if node.lookups <= 0 and node.links <= 0:
            self.nodes.pop(node.number, None)

    def _child(self, parent: Node, name: str) -> Node:
        try:
            return (parent.names or {})[name]
        except KeyError:
            raise OSError(errno.ENOENT, name) from None

    def _ask(self, kind: str, path: str, data: bytes = b"") -> None:
        if self.power and self.before is not None:
            refusal = self.before(Change(kind, path, data))
            if refusal is not None:
                raise OSError(refusal, path)
        if not self.power:
            raise OSError(errno.EIO, path)

    def _done(self, kind: str, path: str, data: bytes = b"") -> None:
        if self.after is not None:
            self.after(Change(kind, path, data))


def _fit(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _put(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node
