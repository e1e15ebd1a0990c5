"""An address that answers no connect."""

from __future__ import annotations

import socket
from unittest import TestCase


class Hole:
    """Its backlog is full, until somebody accepts from `listener`; `port` 0: the kernel picks one."""

    def __init__(self, test: TestCase, address: str = "127.0.0.1", port: int = 0) -> None:
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(0)
        self.port: int = self.listener.getsockname()[1]
        test.addCleanup(self.listener.close)
        for _ in range(10):
            sock = socket.socket()
            sock.settimeout(0.2)
            test.addCleanup(sock.close)
            try:
                sock.connect((address, self.port))
            except TimeoutError:
                return
        raise AssertionError("the backlog has no end")
