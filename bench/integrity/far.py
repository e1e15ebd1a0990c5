"""The listeners of a far end: in clear, with TLS, on a unix socket."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listeners:
    """`plain`, `secure`: their ports, once started; the unix socket is at `path`. `serve` has each connection."""

    def __init__(self, serve: Serve, tls: ssl.SSLContext, path: Path) -> None:
        self._serve, self._tls, self._path = serve, tls, path
        self._servers: list[asyncio.Server] = []
        self._sessions: set[asyncio.Task[None] | None] = set()
        self.plain = self.secure = 0

    async def start(self) -> None:
        self._servers = [
            await asyncio.start_server(self._session, "127.0.0.1", 0, limit=1 << 17),
            await asyncio.start_server(self._session, "127.0.0.1", 0, limit=1 << 17, ssl=self._tls),
            await asyncio.start_unix_server(self._session, self._path, limit=1 << 17),
        ]
        self.plain, self.secure = (one.sockets[0].getsockname()[1] for one in self._servers[:2])

    async def close(self) -> None:
        """Once whoever connects has closed: the sessions end by themselves."""
        for server in self._servers:
            server.close()
        while self._sessions:
            await asyncio.sleep(0.01)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._sessions.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._sessions.discard(task)
            writer.close()
