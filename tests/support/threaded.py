"""A server whose connections have a thread each: for far ends that are plain code on plain sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

Talk = Callable[[socket.socket], object]


class Threaded:
    """`talk` has each connection, and the socket is closed after it. `listener`: it is ours from now on; None: one on a
    free port of 127.0.0.1, which is `port`.
    """

    def __init__(self, talk: Talk, listener: socket.socket | None = None) -> None:
        self._talk = talk
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=256)
        place = self._listener.getsockname()
        self.port: int = place[1] if isinstance(place, tuple) else 0
        self.connections = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Nobody is taken any more; whoever was stays."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            self._talk(sock)
