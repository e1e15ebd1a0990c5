"""The HTTP API: it makes the unix socket `admin.socket`, listens there, and removes it. `paths` has what it answers."""

from __future__ import annotations

import errno
import socket
import stat
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorUNIX
from twisted.web.server import Site

from dcrouter.admin.paths import Answers, root
from dcrouter.errors import StartError, reason_of

MODE = 0o600
IDLE = 30
"""Seconds after which a silent client is closed."""


class Api(Service):
    """`path`: of the socket. `answers`: the parent."""

    def __init__(self, reactor: IReactorUNIX, path: Path, answers: Answers) -> None:
        self.reactor = reactor
        self.path = path
        self.answers = answers
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """Begin to listen; StartError with one line where that is impossible."""
        _remove_stale(self.path)
        site = QuietSite(root(self.answers), timeout=IDLE)  # type: ignore[no-untyped-call]
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._port = self.reactor.listenUNIX(str(self.path), site, mode=MODE)  # type: ignore[arg-type]
        except CannotListenError as error:
            site.doStop()  # type: ignore[no-untyped-call]  # begun before the socket was tried
            raise StartError(f"admin.socket: cannot listen on {self.path}: {error.socketError.strerror}") from error
        except OSError as error:
            raise StartError(f"admin.socket: cannot listen on {self.path}: {error.strerror}") from error
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[Any]:
        """Listen no more, and remove the socket."""
        super().stopService()  # type: ignore[no-untyped-call]
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else maybeDeferred(lambda: None)


class QuietSite(Site):
    """Asking is no outcome that a log should tell of."""

    def log(self, request: object) -> None:
        """Say nothing."""


def _remove_stale(path: Path) -> None:
    """Remove the socket of an instance that was killed; StartError where somebody answers on it, or it is no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartError(f"admin.socket: {path} exists and is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(bytes(path))
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ECONNREFUSED:
            raise StartError(f"admin.socket: {path} cannot be used: {reason_of(error)}") from error
    else:
        raise StartError(f"admin.socket: another program answers on {path}")
    try:
        path.unlink()
    except OSError as error:
        raise StartError(f"admin.socket: {path} cannot be removed: {error.strerror}") from error
