"""Certificates as files for other servers: `certificates.export`.

For every name for which `auto` chooses, NAME.pem holds what is shown for it: the private key, the certificate, its
issuers. It is one file, so that it is replaced as one; 0600. `*.` in a name is `_.` in the file's; a name with a second
type of key has that in NAME.TYPE.pem. A file whose name is wanted no more stays where it is.

After a change the command is run. One that is still to be run, because it failed or because we were killed before, is
remembered in `<state_dir>/export.pending` and run again, first after AGAIN seconds, then later and later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.config.admin import Config
from dcrouter.config.tls import Export
from dcrouter.control.outward.chosen import Chosen
from dcrouter.durable import make_directory, write_whole
from dcrouter.net.programs import run
from dcrouter.tls.credential import Credential

TIMEOUT = 60.0
"""Seconds that the command may take."""
AGAIN = 60.0
AGAIN_AT_MOST = 3600.0
"""Seconds until what failed is tried again, each time twice as long."""


@frozen
class _Wanted:
    """Files, and whom to tell. `pending`: the mark on disk that the command is to be run."""

    export: Export
    pending: Path
    files: dict[str, Credential] = field(repr=False)


class Exports:
    """Of one parent. `timeout`: of the command, seconds."""

    log = Logger()

    def __init__(self, reactor: Any, timeout: float = TIMEOUT) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._wanted: _Wanted | None = None
        self._written: dict[Path, str] = {}
        self._running: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        self._failures = 0

    def use(self, config: Config, chosen: Chosen) -> None:
        """From now on these are shown; what has changed is written soon."""
        export = config.certificates.export
        if export is None:
            self._wanted = None
            self._cancel()
            return
        files = {
            file_name(name, credential, shown): credential for name, shown in chosen.by_name() for credential in shown
        }
        self._wanted = _Wanted(export, config.state_dir / "export.pending", files)
        self._failures = 0
        self._soon(0.0)

    def stop(self) -> None:
        """Nothing more is written or run."""
        self._wanted = None
        self._cancel()
        if self._running is not None:
            self._running.cancel()

    def _soon(self, seconds: float) -> None:
        self._cancel()
        self._timer = self._reactor.callLater(seconds, self._work)

    def _cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _work(self) -> None:
        wanted = self._wanted
        if wanted is None or self._running is not None:
            return
        try:
            self._write(wanted)
        except OSError as error:
            where = error.filename or wanted.export.dir
            self._failed(f"{where}: {error.strerror}: certificates are not exported")
            return
        if not (wanted.export.command and wanted.pending.exists()):
            self._failures = 0
            return
        self._running = Deferred.fromCoroutine(run(self._reactor, wanted.export.command, self._timeout))
        self._running.addCallback(self._ran, wanted).addErrback(self._broken)

    def _write(self, wanted: _Wanted) -> None:
        make_directory(wanted.export.dir)
        for name, credential in wanted.files.items():
            path = wanted.export.dir / name
            if self._written.get(path) == credential.id:
                continue
            content = credential.key + credential.chain
            if not path.exists() or path.read_bytes() != content:
                if wanted.export.command:
                    write_whole(wanted.pending, b"", 0o600)
                write_whole(path, content, 0o600)
                self.log.info("a certificate is exported to {file}", file=str(path))
            self._written[path] = credential.id

    def _ran(self, problem: str | None, wanted: _Wanted) -> None:
        self._running = None
        if problem is not None:
            self._failed(problem)
            return
        self._failures = 0
        self.log.info("certificates.export.command has been run")
        wanted.pending.unlink(missing_ok=True)
        if self._wanted is not wanted:  # others have come meanwhile
            self._soon(0.0)

    def _broken(self, failure: Failure) -> None:
        self._running = None
        self._failed(str(failure.value))

    def _failed(self, problem: str) -> None:
        if self._wanted is None:
            return
        wait = min(AGAIN * 2**self._failures, AGAIN_AT_MOST)
        self._failures = min(self._failures + 1, 10)
        self.log.error("certificates.export: {problem}; again in {wait} s", problem=problem, wait=round(wait))
        self._soon(wait)


def file_name(name: str, credential: Credential, shown: tuple[Credential, ...]) -> str:
    """For one of those that are shown for `name`."""
    stem = f"_.{name[2:]}" if name.startswith("*.") else name
    return f"{stem}.pem" if credential is shown[0] else f"{stem}.{credential.key_type}.pem"
