"""static: files under a directory, and nothing else that is there or elsewhere.

Nothing that begins with a dot is there (but `/.well-known`), no directory is listed, and no way leads out of `root`
(net/files). A small file leaves with its head in one send; a large one by sendfile(2) where the client's side is plain.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from dcrouter.config.actions import Static
from dcrouter.errors import EXHAUSTED, reason_of
from dcrouter.net.engine import Task
from dcrouter.net.files import fetch, open_beneath, read
from dcrouter.net.stream import BULK
from dcrouter.net.threads import Busy, Threads
from dcrouter.proxy.http.errors import FileFailed
from dcrouter.proxy.http.exchange import Exchange
from dcrouter.wire.http1.answer import date
from dcrouter.wire.http1.conditional import part, verdict
from dcrouter.wire.http1.mediatypes import media_type

SMALL = 65536
"""Octets of a file that are read, and sent with the head."""
OPENED_WITHIN = 30.0
"""Seconds for a disk to bring a file, or its next piece."""

_NOT_THERE = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EXDEV, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV, errno.EINVAL)
)
T = TypeVar("T")

_LEADING = re.compile(r"/+")


class StaticAnswer:
    def __init__(self, action: Static, threads: Threads) -> None:
        self._root = str(action.root)
        self._index = action.index
        self._threads = threads

    async def answer(self, exchange: Exchange) -> None:
        if exchange.head.method not in ("GET", "HEAD"):
            await exchange.refuse(405, f"{exchange.head.method} of a file", [("Allow", "GET, HEAD")])
            return
        path, mark, query = exchange.uri.partition("?")
        way = way_of(path)
        if way is None:
            await exchange.refuse(404, "not the path of a file")
            return
        task = exchange.connection.session.task
        task.within(OPENED_WITHIN, "file")
        try:
            opened = await self._opened(exchange, way, directory=path.endswith("/"))
            if opened is None:
                await exchange.refuse(404, "there is no such file")
            elif isinstance(opened, str):
                location = _LEADING.sub("/", path, count=1) + "/" + mark + query
                await exchange.respond(301, b"", [("Location", location)])
            else:
                fd, name = opened
                try:
                    await self._answer(exchange, fd, name)
                finally:
                    os.close(fd)
        except Busy as error:
            if exchange.started:
                raise FileFailed(str(error)) from error
            await exchange.refuse(503, str(error), [("Retry-After", "1")])
        except PermissionError as error:
            await exchange.refuse(403, error.strerror or "not allowed")

    async def _opened(self, exchange: Exchange, way: str, *, directory: bool) -> tuple[int, str] | str | None:
        """(descriptor, name) of the file; its way, where that is a directory's without its slash; None: no file.

        PermissionError where it is not ours to read.
        """
        task = exchange.connection.session.task
        for name in self._index if directory else ("",):
            place = f"{way}/{name}" if way and name else way or name
            try:
                fd = await open_beneath(self._threads, task, self._root, place)
            except PermissionError:
                raise
            except OSError as error:
                if error.errno in _NOT_THERE:
                    continue
                if error.errno in EXHAUSTED:
                    raise Busy("out of descriptors") from error
                raise FileFailed(reason_of(error)) from error
            mode = os.fstat(fd).st_mode
            if stat.S_ISREG(mode):
                return fd, place.rpartition("/")[2]
            os.close(fd)
            if stat.S_ISDIR(mode) and not directory:
                return place
        return None

    async def _answer(self, exchange: Exchange, fd: int, name: str) -> None:
        get = exchange.head.get
        status = os.fstat(fd)
        size, modified = status.st_size, int(status.st_mtime)
        etag = f'"{status.st_mtime_ns:x}-{size:x}"'
        fields = [("ETag", etag), ("Last-Modified", date(modified)), ("Accept-Ranges", "bytes")]
        found = verdict(get, etag, modified)
        if found == 304:
            await exchange.respond(304, b"", fields)
            return
        if found == 412:
            await exchange.refuse(412, "a condition of the request does not hold")
            return
        wanted = part(get, etag, modified, size) if exchange.head.method == "GET" else None
        if wanted == (size, size):
            await exchange.refuse(416, "a part that is not there", [("Content-Range", f"bytes */{size}")])
            return
        fields += [("Content-Type", media_type(name)), ("X-Content-Type-Options", "nosniff")]
        start, end = wanted or (0, size)
        if wanted is not None:
            fields.append(("Content-Range", f"bytes {start}-{end - 1}/{size}"))
        await self._send(exchange, fd, 200 if wanted is None else 206, fields, start, end)

    async def _send(
        self, exchange: Exchange, fd: int, status: int, fields: list[tuple[str, str]], start: int, end: int
    ) -> None:
        assert exchange.route is not None
        task, idle = exchange.connection.session.task, exchange.route.timeouts.idle
        wants_body = exchange.head.method != "HEAD"
        if end - start <= SMALL and wants_body:
            body = await self._of_disk(read, task, fd, end - start, start) if end > start else b""
            task.within(idle, "idle")
            await exchange.respond(status, body, fields)
            return
        if wants_body:
            await self._of_disk(fetch, task, fd, min(BULK, end - start), start)
        task.within(idle, "idle")
        if await exchange.begin(status, fields, end - start):
            while start < end:
                size = min(BULK, end - start)
                await self._of_disk(fetch, task, fd, size, start)
                await exchange.send_file(fd, start, size)
                start += size
        exchange.answered = True

    async def _of_disk(
        self, call: Callable[[Threads, Task, int, int, int], Awaitable[T]], task: Task, fd: int, size: int, offset: int
    ) -> T:
        """What `call` gives. What goes wrong with a disk is not the client's doing, as other OSErrors here are."""
        try:
            return await call(self._threads, task, fd, size, offset)
        except OSError as error:
            raise FileFailed(reason_of(error)) from error


def way_of(path: str) -> str | None:
    """What a request's path means under the root, "" for the root itself; None for what no file has.

    Decoded once. Empty parts and `.` say nothing; `..` and an encoded slash are no part of any way here.
    """
    if not path.startswith("/"):
        return None
    parts: list[str] = []
    for raw in path.split("/"):
        part = os.fsdecode(unquote_to_bytes(raw.encode("latin-1")))
        if part in ("", "."):
            continue
        if "\0" in part or "/" in part or (part.startswith(".") and (parts or part != ".well-known")):
            return None
        parts.append(part)
    return "/".join(parts)
