"""The HTTP API: it makes the unix socket `admin.socket`, listens there, and removes it. `paths` has what it answers.

Whoever cleans up directories may have removed it, or the disk is read-only by then: neither keeps it from ending.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorUNIX
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Site

from dcrouter.admin.paths import Answers, root
from dcrouter.errors import StartError, reason_of

MODE = 0o600
IDLE = 30
"""Seconds after which a silent client is closed."""


class Api(Service):
    """`path`: of the socket. `answers`: the parent."""

    log = Logger()

    def __init__(self, reactor: IReactorUNIX, path: Path, answers: Answers) -> None:
        self.reactor = reactor
        self.path = path
        self.answers = answers
        self._port: _Port | None = None

    def startService(self) -> None:
        """Begin to listen; StartError with one line where that is impossible."""
        self._listen()
        super().startService()  # type: ignore[no-untyped-call]

    def renew(self) -> None:
        """Listen anew where the socket has been removed. Those who are connected stay so."""
        if not self.running or os.path.lexists(self.path):
            return
        self._close()
        try:
            self._listen()
            self.log.warn("admin.socket: {path} was removed, and is there again", path=str(self.path))
        except StartError as error:
            self.log.error("{problem}", problem=str(error))

    def stopService(self) -> Deferred[Any]:
        """Listen no more, and remove the socket."""
        super().stopService()  # type: ignore[no-untyped-call]
        return self._close()

    def _listen(self) -> None:
        _remove_stale(self.path)
        site = QuietSite(root(self.answers), timeout=IDLE)  # type: ignore[no-untyped-call]
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            port = _Port(self.path, site, self.reactor)
            port.startListening()
        except CannotListenError as error:
            site.doStop()  # type: ignore[no-untyped-call]  # begun before the socket was tried
            raise StartError(f"admin.socket: cannot listen on {self.path}: {error.socketError.strerror}") from error
        except OSError as error:
            raise StartError(f"admin.socket: cannot listen on {self.path}: {error.strerror}") from error
        self._port = port

    def _close(self) -> Deferred[Any]:
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else maybeDeferred(lambda: None)


class _Port(unix.Port):
    """It removes the file that it has made, if that is there, and ends as every port."""

    def __init__(self, path: Path, site: QuietSite, reactor: IReactorUNIX) -> None:
        super().__init__(os.fsencode(path), site, mode=MODE, reactor=reactor)
        self._path = path

    def startListening(self) -> None:
        super().startListening()  # type: ignore[no-untyped-call]
        self._made = os.stat(self._path)

    def connectionLost(self, reason: Failure) -> None:
        with suppress(OSError):
            if os.path.samestat(os.lstat(self._path), self._made):
                os.unlink(self._path)
        tcp.Port.connectionLost(self, reason)


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
