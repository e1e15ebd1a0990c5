"""A mail server that reads line by line, to compare with: aiosmtpd, whose handler here writes each message to a file,
which is synced before it is answered. `python -m bench.lines PORT DIRECTORY`.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
import sys
from pathlib import Path
from typing import Any

LARGEST = 60 << 20


class _Keeper:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        with (self._directory / f"message-{next(self._numbers)}").open("wb") as file:
            file.write(envelope.original_content)
            file.flush()
            os.fsync(file.fileno())
        return "250 2.0.0 OK"


async def main() -> None:
    smtp = importlib.import_module("aiosmtpd.smtp")
    keeper, loop = _Keeper(Path(sys.argv[2])), asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: smtp.SMTP(keeper, data_size_limit=LARGEST, loop=loop), "127.0.0.1", int(sys.argv[1])
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
