"""A mail server that reads line by line, to compare with: Twisted's own ESMTP, which writes each message to a file and
syncs it before it answers. `python -m bench.lines PORT DIRECTORY`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import protocol, reactor
from twisted.internet.defer import Deferred, succeed
from twisted.mail import smtp
from zope.interface import implementer


@implementer(smtp.IMessage)
class _Message:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")

    def lineReceived(self, line: bytes) -> None:
        self._file.write(line + b"\r\n")

    def eomReceived(self) -> Deferred[None]:
        self._file.flush()
        os.fsync(self._file.fileno())
        self.connectionLost()
        return succeed(None)

    def connectionLost(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


@implementer(smtp.IMessageDelivery)
class _Delivery:
    """Takes everything."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        return b"Received: by localhost"

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        return origin

    def validateTo(self, user: Any) -> Any:
        self._count += 1
        path = self._directory / f"{id(user)}-{self._count}"
        return lambda: _Message(path)


class _Factory(protocol.ServerFactory):
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def buildProtocol(self, address: Any) -> smtp.ESMTP:
        made = smtp.ESMTP()
        made.delivery = _Delivery(self._directory)
        made.factory = self
        return made


def main() -> None:
    core: Any = reactor
    core.listenTCP(int(sys.argv[1]), _Factory(Path(sys.argv[2])), interface="127.0.0.1")
    core.run()


if __name__ == "__main__":
    main()
