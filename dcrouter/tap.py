"""twistd glue: `twistd -n dcrouter --config routes.yaml`, and `dcrouter run`: the same service in the foreground.

1. makeService only reads the configuration: twistd forks after it. A bad one is printed, problem by problem, exit 1.
2. The application gets our log (admin/logs.py) before twistd begins to log. Where `log.file` is standard output and
   twistd daemonises, its --logfile or twistd.log takes that place; with --syslog or --logger twistd's own log stays.
3. A StartError ends as one clear line per problem on the terminal that started it, and exit 1, also when daemonised.
4. Nothing that this imports may import twisted.internet.endpoints, which takes what systemd tells of passed sockets out
   of the environment for itself (control/ports.py reads it): clients of HTTP are imported when one is needed.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import ILogObserver, globalLogBeginner
from twisted.python import usage

from dcrouter.admin.access import AccessLogWriter
from dcrouter.admin.api import Api
from dcrouter.admin.logfile import LogFile
from dcrouter.admin.logs import LogWriter
from dcrouter.admin.places import find_config
from dcrouter.config.admin import Config
from dcrouter.config.halves import Half
from dcrouter.config.load import load_service, to_plain
from dcrouter.control.parent import Parent
from dcrouter.control.privileges import find_account
from dcrouter.control.records import publish_all
from dcrouter.errors import ConfigError, DcrouterError, StartError
from dcrouter.net.reactor import steady


class Options(usage.Options):
    """The arguments behind `twistd dcrouter`."""

    optParameters = [
        ["config", "c", None, "The configuration [routes.yaml here, then /etc/dcrouter/routes.yaml]."],
        ["only", None, None, "Which half of two services this is: proxy or mail (email.remote)."],
    ]

    half: Half | None = None

    def postOptions(self) -> None:
        if self["only"] is None:
            return
        if self["only"] not in get_args(Half):
            raise usage.UsageError(f"--only: one of {', '.join(get_args(Half))}")
        self.half = cast(Half, self["only"])


class Router(MultiService):
    """The whole service of the configuration in `source`; ConfigError or StartError where that cannot be.

    `log_file`: where the log goes if the configuration says standard output; None for that. `own_log` False: it goes
    wherever twisted.logger sends it. `half`: which of two services it is, None: there is one.
    """

    def __init__(
        self,
        source: Path,
        reactor: Any,
        log_file: Path | None = None,
        *,
        own_log: bool = True,
        half: Half | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        config, self.warnings = load_service(source, half)
        self.log_writer = _log_writer(config, log_file) if own_log else None
        self.parent_process = Parent(
            config,
            source.absolute(),
            to_plain(config),
            reactor,
            access_log=_access_log(config, reactor),
            window=lambda parent: Api(reactor, config.admin.socket, parent),
            log_sink=self.log_writer.file if self.log_writer is not None else None,
            log_lines=self.log_writer.write if self.log_writer is not None else publish_all,
            make_access_log=lambda config: _access_log(config, reactor),
            set_level=self._set_level,
            half=half,
        )
        self.addService(self.parent_process)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        for warning in self.warnings:
            self.parent_process.log.warn("{warning}", warning=warning)
        super().startService()  # type: ignore[no-untyped-call]

    def _set_level(self, level: str) -> None:
        if self.log_writer is not None:
            self.log_writer.level = level

    @property
    def failure(self) -> StartError | None:
        """Why the start failed when the reactor ran already, or None."""
        return self.parent_process.failure


class TwistdRouter(Router):
    """The service as twistd runs it: a refusal ends the process the way twistd expects.

    It keeps the terminal that started it for that: when daemonised, standard error is gone by then.
    """

    def __init__(self, source: Path, reactor: Any, twistd: dict[str, Any], half: Half | None = None) -> None:
        self.twistd = twistd
        self.terminal = os.dup(2)
        own_log = not (twistd.get("syslog") or twistd.get("logger"))
        super().__init__(source, reactor, _stdout_place(twistd), own_log=own_log, half=half)

    def setServiceParent(self, parent: Any) -> None:
        if self.log_writer is not None:
            try:
                self.log_writer.file.open()
            except StartError as error:
                self._refuse(error)
            parent.setComponent(ILogObserver, self.log_writer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except StartError as error:
            self._refuse(error)

    def startService(self) -> None:
        try:
            super().startService()
        except StartError as error:
            self._refuse(error)
        if not self.twistd.get("nodaemon"):
            os.close(self.terminal)
            self.terminal = -1

    def stopService(self) -> Deferred[Any]:
        return maybeDeferred(super().stopService).addBoth(self._stopped)

    def _stopped(self, result: Any) -> Any:
        if self.failure is not None:
            if self.terminal != -1:
                tell(self.terminal, self.failure)
            # twistd knows no other way to end with a status of one's own once the reactor has run.
            atexit.register(os._exit, 1)
        return result

    def _refuse(self, error: StartError) -> None:
        tell(self.terminal, error)
        if self.log_writer is not None and self.log_writer.file.path is not None:
            self.parent_process.log.critical("{problem}", problem=str(error))
        pipe = self.twistd.get("statusPipe")
        if pipe is not None:
            # The process that waits for the daemon prints this and exits with 1.
            os.write(pipe, b"1 dcrouter has not started")
            os.close(pipe)
        pid_file = self.twistd.get("pidfile")
        if pid_file:
            # After the step down its directory may be closed to us: the next start sees that nobody has this pid.
            with contextlib.suppress(OSError):
                Path(pid_file).unlink()
        raise SystemExit(1)


def makeService(options: Options) -> IService:
    """The service for twistd; a bad configuration is printed and ends the process with 1."""
    from twisted.internet import reactor

    steady(reactor)
    try:
        source = find_config(options["config"])
        twistd = cast("dict[str, Any]", options.parent or {})
        return cast(IService, TwistdRouter(source, reactor, twistd, options.half))
    except DcrouterError as error:
        tell(2, error)
        raise SystemExit(1) from None


def run(arguments: Sequence[str]) -> int:
    """The service in the foreground until SIGTERM or SIGINT: 0, or 1 where it could not start."""
    from twisted.internet import reactor

    steady(reactor)
    options = Options()  # type: ignore[no-untyped-call]
    terminal = os.dup(2)
    try:
        options.parseOptions(list(arguments))  # type: ignore[no-untyped-call]
        source = find_config(options["config"])
        router = Router(source, reactor, half=options.half)
        assert router.log_writer is not None
        router.log_writer.file.open()
        globalLogBeginner.beginLoggingTo([cast(ILogObserver, router.log_writer)])
        router.privilegedStartService()  # type: ignore[no-untyped-call]
        router.startService()
    except usage.UsageError as error:
        tell(terminal, error)
        return 2
    except DcrouterError as error:
        tell(terminal, error)
        return 1
    core = cast(Any, reactor)
    core.addSystemEventTrigger("before", "shutdown", router.stopService)
    core.run()
    if router.failure is not None:
        tell(terminal, router.failure)
        return 1
    return 0


def tell(terminal: int, error: Exception) -> None:
    """One line per problem; those of the configuration begin with their place in it, for editors."""
    mark = "" if isinstance(error, ConfigError) else "dcrouter: "
    for line in str(error).splitlines():
        os.write(terminal, f"{mark}{line}\n".encode())


def _log_writer(config: Config, stdout_place: Path | None) -> LogWriter:
    owner = None
    if config.user is not None or config.group is not None:
        account = find_account(config.user, config.group)
        owner = (account.uid, account.gid) if account is not None else None
    return LogWriter(LogFile(config.log.file or stdout_place, owner), config.log.format, config.log.level)


def _access_log(config: Config, reactor: Any) -> AccessLogWriter | None:
    if config.access_log is None:
        return None
    return AccessLogWriter(reactor, LogFile(config.access_log.file), config.access_log.sample)


def _stdout_place(twistd: dict[str, Any]) -> Path | None:
    """What stands for standard output under twistd: None for itself, or the file that twistd would log to."""
    name = twistd.get("logfile")
    if name == "-" or (not name and twistd.get("nodaemon")):
        return None
    return Path(name or "twistd.log").absolute()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
