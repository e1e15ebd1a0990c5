"""The parent process as one service: it opens everything, starts the children, and ends them in order.

1. privilegedStartService, as whoever started it: the state directory and its lock, then every port. All or nothing.
2. startService: step down to `user`, load certificates as that user, start the children and the operator's window.
3. When every child is ready and the names of targets were asked for (or 2 s later): `go`, and the line that says so.
4. stopService: `drain` to the children, our own listening sockets closed, then the end of what has not ended in time.
   A second signal ends it at once.
5. SIGHUP, or the operator, has it change its configuration: control/reload.py.
A StartError at 1 or 2 leaves nothing open; one at 3 stops the reactor and stays in `failure`.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.config.admin import Config
from dcrouter.config.code import code_of
from dcrouter.config.effective import effective_routes
from dcrouter.config.halves import Half
from dcrouter.control import ports, privileges, records
from dcrouter.control.certificates import CertificateWatch
from dcrouter.control.child import Command, command
from dcrouter.control.children import Children
from dcrouter.control.greeting import greeting
from dcrouter.control.issuing.office import Office, ToEdge
from dcrouter.control.keysets import KeySetWatch, key_set_urls
from dcrouter.control.names import DENIAL, Names, names_of
from dcrouter.control.operations import Operations
from dcrouter.control.ports import Listener
from dcrouter.control.reload import Loaded, Reloads
from dcrouter.control.roles import mail_home, roles, without_mail
from dcrouter.control.sinks import AccessLog, LogLines, LogSink, Window
from dcrouter.control.sockets import Sockets
from dcrouter.control.state import StateDirectory
from dcrouter.control.status import status_of
from dcrouter.control.summary import hints
from dcrouter.control.trial import tried_beside
from dcrouter.control.trust import TrustWatch, read_ca_files
from dcrouter.errors import StartError, Unreachable
from dcrouter.net.resolver import Resolver
from dcrouter.tls.store import CertificateStore
from dcrouter.wire.hostport import hostport

FIRST_NAMES = 2.0
"""Seconds for which the first connections wait for a slow resolver."""
MAIL_ANSWERS = 50.0
"""Seconds: to count a queue of millions takes some on a busy machine. The command line waits for ten more."""

State = Literal["stopped", "starting", "ready", "draining"]


class Parent(Service):
    """`source`: the file that `config` came from; `plain`: the same as plain values, for the children.

    `access_log` is closed at the end. `window` makes the operator's window: a service that is started last and stopped
    last. `log_sink` and `access_log` are opened anew on SIGUSR1. `log_lines` takes what children log. `failure`: why
    the start failed after the reactor ran. `make_access_log`: that of another configuration, not open yet. `set_level`
    makes a word of LogLevel that of the log. `half`: which one of two services it is.
    """

    log = Logger()

    def __init__(
        self,
        config: Config,
        source: Path,
        plain: Mapping[str, Any],
        reactor: Any,
        *,
        access_log: AccessLog | None = None,
        window: Callable[[Parent], Window] | None = None,
        log_sink: LogSink | None = None,
        log_lines: LogLines = records.publish_all,
        command: Command = command,
        make_access_log: Callable[[Config], AccessLog | None] = lambda config: None,
        set_level: Callable[[str], None] = lambda level: None,
        half: Half | None = None,
    ) -> None:
        self.config = config
        self.source = source
        self.half = half
        self.plain = plain
        self.reactor = reactor
        self.access_log = access_log
        self.window = window(self) if window is not None else None
        self.log_sink = log_sink
        self.log_lines = log_lines
        self.command = command
        self.make_access_log = make_access_log
        self.set_level = set_level
        self.log_level: str = config.log.level
        self.routes = effective_routes(config)
        self.state: State = "stopped"
        self.failure: StartError | None = None
        self.sockets = Sockets()
        self.state_directory = StateDirectory(config.state_dir, mail_home(config), config.log.file)
        self.office = Office(config, reactor, ToEdge(lambda: self.children), lambda: self.certificates.look_soon())
        self.resolver = Resolver(config.resolver, reactor, denial=DENIAL)
        store = CertificateStore(config, self.routes, time.time, acme=self.office.credentials)
        self.certificates = CertificateWatch(store, self._tell_all, reactor, self.resolver)
        self.certificates.loaded = lambda store: self._see_to_certificates()
        self.trust = TrustWatch(lambda files: self._tell_all("ca_files", {"ca_files": files}), reactor)
        self.names = Names(
            reactor,
            names_of(config, self.routes),
            lambda known: self._tell("addresses", {"names": known}),
            self.resolver,
        )
        self.key_sets = KeySetWatch(reactor, lambda known: self._tell("key_sets", {"sets": known}, "edge", "mail"))
        self.children: Children | None = None
        self.reloads = Reloads(self)
        self.operations = Operations(self)
        self._account: privileges.Account | None = None
        self._started = 0.0
        self._signals: dict[int, Any] = {}

    def privilegedStartService(self) -> None:
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        account = privileges.find_account(self.config.user, self.config.group)
        if privileges.is_root():
            self._account = account
        elif account is not None and account.uid != os.geteuid():
            self.log.warn("user {user} is left aside: only root can become someone else", user=account.name)
        privileges.raise_descriptor_limit()
        privileges.close_on_exec()
        self.state_directory.open(self._account)
        try:
            self.sockets.open(self.config)
        except StartError:
            self.state_directory.close()
            raise
        self.office.open(self.config, self.sockets.listeners, self.sockets.spare)
        self.sockets.settle()
        for address, port in self.sockets.spare:
            self.log.warn(
                "{place} was passed to us, and no route wants it: whoever connects waits",
                place=hostport(address, port),
            )

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._started = self.reactor.seconds()
        self.state = "starting"
        try:
            if self._account is not None:
                privileges.drop(self._account)
                privileges.check_program(self.command("edge")[0], self._account)
            self.office.load()
            self.certificates.load()
            self.trust.use(self.config, read_ca_files(self.config))
            if self.access_log is not None:
                self.access_log.open()
            if self.window is not None:
                self.window.privilegedStartService()
                self.window.startService()
        except StartError:
            self._release()
            raise
        self._signals[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._when_signalled(self._reopen))
        self._signals[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._when_signalled(self._hung_up))
        needed, lock = roles(self.config), self.state_directory.lock
        self.children = Children(self.reactor, needed, partial(greeting, self), self._received, self.command, lock)
        self.names.start()
        self.key_sets.use(key_set_urls(self.config))
        self._see_to_certificates()
        self.certificates.start()
        self.trust.start()
        Deferred.fromCoroutine(self._begin(self.children)).addErrback(self._failed)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self.children is None:
            self._release()
            return
        self.state = "draining"
        self.reloads.give_up()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._signals[number] = signal.signal(number, self._when_signalled(self._end_at_once))
        self.names.stop()
        self.key_sets.stop()
        self.certificates.close()
        self.resolver.close()
        ordering = self.office.stop()
        self.trust.stop()
        timeout = self.drain_timeout()
        stopped = self.children.stop(timeout)
        self._close_ports()
        self.log.info(
            "stopping: connections have {timeout} to end", timeout=f"{timeout:g} s" if timeout else "all time"
        )
        await stopped
        await ordering
        self.children = None
        if self.window is not None:
            await maybeDeferred(self.window.stopService)
        self.log.info("stopped")
        self._release()

    def drain_timeout(self) -> float:
        """Seconds that the slowest route may take to end its connections, 0 where one has no limit."""
        drains = [self.config.defaults.timeouts.drain, *(route.timeouts.drain for route in self.routes)]
        return 0.0 if 0 in drains else max(drains)

    # The operator's questions.

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return float(self.reactor.seconds()) - self._started

    def status(self) -> Deferred[dict[str, Any]]:
        """What the service does now, JSON-ready; `counters` of a child that does not answer is None."""
        return Deferred.fromCoroutine(status_of(self))

    def ask_mail(self, kind: str, fields: dict[str, Any]) -> Deferred[dict[str, Any]]:
        """A question to the mail process: its answer; Unreachable where there is none."""
        if self.children is None or "mail" not in roles(self.config):
            raise Unreachable(f"there is no mail process: {without_mail(self.config)}")
        return self.children.ask("mail", kind, fields, timeout=MAIL_ANSWERS)

    # What the children are told, and tell.

    def _received(self, role: str, kind: str, fields: dict[str, Any]) -> None:
        if kind == "log":
            self.log_lines(role, fields["lines"])
        elif kind == "access":
            if self.access_log is not None:
                self.access_log.write(fields["lines"], fields.get("dropped", 0))
        elif kind == "key_missed":
            self.key_sets.missed(fields["url"])
        elif kind == "unneeded":
            if self.children is not None and not self.children.held and role not in roles(self.config):
                self.children.retire(role)
        elif kind == "wish":
            self.office.wished(fields["name"])
        else:
            self.log.error("{role} sent a message that nobody knows: {kind}", role=role, kind=kind)

    def _tell(self, kind: str, fields: dict[str, Any], *among: str) -> None:
        for role in among or ("edge",):
            if self.children is not None:
                self.children.tell(role, kind, fields)

    def _tell_all(self, kind: str, fields: dict[str, Any]) -> None:
        if self.children is not None:
            self.children.tell_all(kind, fields)

    # Another configuration.

    def leave_unneeded(self) -> None:
        """Processes that the configuration has nothing to do for end when they have ended what they do."""
        if self.children is not None:
            for role in self.children.roles():
                if role not in roles(self.config):
                    if role in self.children.present():
                        self.children.tell(role, "leave")
                    else:
                        self.children.retire(role)

    def opened(self) -> dict[ports.Bound, socket.socket]:
        """Every socket that listens here, wanted or not."""
        return {**self.sockets.spare, **self.office.responder.sockets, **self.sockets.wanted()}

    def adopt(self, loaded: Loaded) -> list[Listener]:
        """This is the configuration from now on, for every process that is started too. The listeners that it does not
        want: `close_unused` is next for them.
        """
        before, self.access_log = self.access_log, loaded.access_log
        if before is not None and before is not self.access_log:
            before.close()
        self.config, self.plain, self.routes = loaded.config, loaded.plain, loaded.routes
        unused = self.sockets.use(loaded.listeners)
        for place in self.sockets.wanted():
            self.office.responder.sockets.pop(place, None)
        self.certificates.use(loaded.store, loaded.credentials)
        self.trust.use(loaded.config, loaded.ca_files)
        self.names.only(names_of(loaded.config, loaded.routes))
        self.key_sets.use(key_set_urls(loaded.config))
        self.set_log_level(loaded.config.log.level)
        return unused

    def close_unused(self, unused: Iterable[Listener]) -> None:
        """Close them; certificates are sought for what there is now."""
        self.sockets.close_unused(unused)
        if self.state == "ready":
            self._see_to_certificates()

    def _see_to_certificates(self) -> None:
        try:
            self.office.use(self.config, self.routes, self.sockets.listeners, self.sockets.spare)
            self.office.want(self.config, self.certificates.store)
        except Exception:
            # Whatever it is, what serves now goes on serving, and a reload has happened.
            self.log.failure("automatic certificates cannot be seen to")

    def set_log_level(self, level: str) -> None:
        """The least important lines that are written from now on, by every process."""
        self.log_level = level
        self.set_level(level)
        if self.children is not None:
            self.children.tell_all("log_level", {"level": level})

    def _close_ports(self) -> None:
        self.sockets.close()
        self.office.close()

    # Turns of its life.

    async def _begin(self, children: Children) -> None:
        problems = await tried_beside(self.reactor, code_of(self.config.routes, self.config.email), self.source.parent)
        if self.state != "starting":
            return
        if problems:
            raise StartError("\n".join(problems))
        await children.start()
        await self.names.first_answers(FIRST_NAMES)
        if self.state != "starting":
            return
        children.go()
        self.state = "ready"
        for hint in hints(self.sockets.listeners, self.routes):
            self.log.info("listening on {hint}", hint=hint)
        self.log.info("ready: {routes} routes from {file}", routes=len(self.routes), file=str(self.source))
        self.office.start()
        self.reloads.resume()

    def _failed(self, failure: Failure) -> None:
        if self.state != "starting":
            return
        error = failure.value
        self.failure = error if isinstance(error, StartError) else StartError(f"unexpected: {error}")
        if not isinstance(error, StartError):
            self.log.failure("the start has failed", failure)
        for line in str(self.failure).splitlines():
            self.log.critical("{line}", line=line)
        self.reactor.stop()

    def _release(self) -> None:
        for number, before in self._signals.items():
            signal.signal(number, before)
        self._signals.clear()
        self._close_ports()
        if self.access_log is not None:
            self.access_log.close()
        self.state_directory.close()
        self.state = "stopped"

    def _reopen(self) -> None:
        if self.access_log is not None:
            self.access_log.reopen()
        if self.children is not None:
            self.children.tell_all("reopen")
        problem = self.log_sink.reopen() if self.log_sink is not None else None
        if problem is not None:
            self.log.error("{problem}", problem=problem)
        else:
            self.log.info("log files are open anew")

    def _hung_up(self) -> None:
        self.log.info("SIGHUP: reloading")
        if self.window is not None:
            self.window.renew()
        self.reloads.ask()

    def _end_at_once(self) -> None:
        self.log.warn("a second signal: ending at once")
        if self.children is not None:
            self.children.kill()

    def _when_signalled(self, act: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
        return lambda number, frame: self.reactor.callFromThread(act)
