"""Another configuration for a service that runs: all of it, or nothing, and no connection notices.

1. The file is read and checked here, and the operator's own code that it names tried out (control/trial.py);
   certificates and authorities are loaded, new ports are bound; names of new targets are asked for. Whatever is wrong
   is told, and nothing has changed.
2. Every child is told in pieces (control/incoming.py) and makes all that it needs beside its work. One that cannot, or
   dies of it, ends the reload, and nothing has changed. A process that is needed from now on is started.
3. New ports listen, and every child changes over at once. From here on it has happened: a child that fails now is
   replaced by one with the new configuration.
4. Ports that nobody wants any more are closed.

One reload at a time. Those who ask meanwhile share the next one, which reads the file anew. When the service ends, who
has asked is told that at once; what a reload meets from then on is no error.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from dcrouter.config.admin import Config
from dcrouter.config.changes import Changes, changes, needs_restart
from dcrouter.config.code import code_of, of_handlers
from dcrouter.config.effective import effective_routes
from dcrouter.config.load import load_service, to_plain
from dcrouter.config.routes import Route
from dcrouter.control import ports
from dcrouter.control.credentials import order_of, pieces
from dcrouter.control.greeting import configuration
from dcrouter.control.keysets import key_set_urls
from dcrouter.control.names import names_of
from dcrouter.control.ports import Listener
from dcrouter.control.roles import roles
from dcrouter.control.trial import tried_beside
from dcrouter.control.trust import read_ca_files
from dcrouter.errors import ConfigError, DcrouterError, ReloadError, StartError, Unreachable
from dcrouter.tls.credential import Credential
from dcrouter.tls.store import CertificateStore

if TYPE_CHECKING:
    from dcrouter.control.parent import Parent
    from dcrouter.control.sinks import AccessLog

PIECE = 50
"""Routes in one message: about 50 KB, a fraction of a millisecond to unpack."""
PREPARED_WITHIN = 40.0
"""Seconds for a child to get ready; 10 000 routes take an edge that is busy three."""
HANDLERS_WITHIN = 10.0
"""Seconds for the process that runs code of the operator's, which was tried out before."""
CHANGED_WITHIN = 5.0
"""Seconds for it to change over, which is a moment's work: it is replaced after that."""
NAMES_WITHIN = 2.0
"""Seconds for the names of new targets; those that have no answer by then get it later."""
STOPPING = "the service is stopping"


@frozen(kw_only=True)
class Outcome:
    """Of one reload. `at`: UTC epoch seconds; `problems`: why nothing has changed; `changes`: what has, in words."""

    at: float
    seconds: float
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    changes: str = ""

    def to_plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "ok": not self.problems}


@frozen(kw_only=True)
class Loaded:
    """All that the parent knows of a configuration."""

    config: Config
    plain: Mapping[str, Any]
    routes: tuple[Route, ...]
    store: CertificateStore
    credentials: tuple[Credential, ...]
    ca_files: dict[str, str]
    listeners: tuple[Listener, ...]
    access_log: AccessLog | None
    changes: Changes


class Reloads:
    """Of one parent. `count`, `failed`: since the start; `last`: the outcome of the last one."""

    log = Logger()

    def __init__(self, parent: Parent) -> None:
        self.parent = parent
        self.count = 0
        self.failed = 0
        self.last: Outcome | None = None
        self._running = False
        self._asked: list[Deferred[Outcome]] = []
        self._next: list[Deferred[Outcome]] = []

    def ask(self) -> Deferred[Outcome]:
        """The outcome of a reload that begins now, or after the one that runs. Never fails."""
        if self.parent.state == "draining":
            return succeed(_stopping())
        asked: Deferred[Outcome] = Deferred()
        self._next.append(asked)
        if not self._running:
            self._begin()
        return asked

    def resume(self) -> None:
        """Those who asked before the service was ready have their turn."""
        if self._next and not self._running:
            self._begin()

    def give_up(self) -> None:
        """Nobody waits for a reload of a service that ends, nor for the end of one that runs."""
        asked, self._asked, self._next = [*self._asked, *self._next], [], []
        _answer(asked, _stopping())

    def status(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "count": self.count,
            "failed": self.failed,
            "last": self.last.to_plain() if self.last is not None else None,
        }

    def _begin(self) -> None:
        if self.parent.state == "starting":
            return
        self._running = True
        self._asked, self._next = self._next, []
        Deferred.fromCoroutine(self._run()).addErrback(lambda failure: self.log.failure("a reload broke", failure))

    async def _run(self) -> None:
        began, at = self.parent.reactor.seconds(), time.time()
        warnings: tuple[str, ...] = ()
        problems: tuple[str, ...] = ()
        changed = ""
        try:
            source = self.parent.source
            if source.exists() and not source.is_file():  # a pipe: everything would wait for who writes into it
                raise ConfigError([f"{source}: is not a file, and cannot be read again"])
            config, warnings = load_service(source, self.parent.half)
            changed = str(await self._change(config))
        except ConfigError as error:
            problems = tuple(error.problems)
        except DcrouterError as error:
            problems = tuple(str(error).splitlines())
        except Exception as error:
            self.log.failure("a reload broke")
            problems = (f"unexpected: {error}",)
        if self.parent.state != "ready":
            return
        seconds = round(self.parent.reactor.seconds() - began, 3)
        self.last = Outcome(at=at, seconds=seconds, problems=problems, warnings=warnings, changes=changed)
        self.count += 1
        self.failed += bool(problems)
        self._tell(self.last)
        asked, self._asked = self._asked, []
        _answer(asked, self.last)
        self._running = False
        self.resume()

    def _tell(self, outcome: Outcome) -> None:
        file = str(self.parent.source)
        for warning in outcome.warnings:
            self.log.warn("{warning}", warning=warning)
        for problem in outcome.problems:
            self.log.error("reload: {problem}", problem=problem)
        if outcome.problems:
            self.log.error("reload: nothing has changed, {file} cannot be used", file=file)
        else:
            self.log.info(
                "reloaded from {file} in {seconds:g} s: {changes}",
                file=file,
                seconds=outcome.seconds,
                changes=outcome.changes,
            )

    # What it takes.

    async def _change(self, config: Config) -> Changes:
        parent = self.parent
        restart = needs_restart(parent.config, config)
        if restart:
            raise ReloadError("\n".join(f"{key}: cannot change without a restart" for key in restart))
        children = parent.children
        if children is None or parent.state != "ready":
            raise ReloadError(STOPPING)
        problems = await tried_beside(parent.reactor, code_of(config.routes, config.email), parent.source.parent)
        if problems:
            raise ReloadError("\n".join(problems))
        self._still_ready()
        loaded = self._load(config)
        opened = ports.opened_among(loaded.listeners, parent.opened())
        added: list[str] = []
        served = {id(listener.sock) for listener in parent.sockets.listeners}
        fresh = [listener for listener in loaded.listeners if id(listener.sock) not in served]
        parent.certificates.stop()
        prepared: list[str] = []
        try:
            await children.settled()
            children.hold()
            parent.key_sets.also(key_set_urls(config))
            await parent.names.also(names_of(config, loaded.routes), NAMES_WITHIN)
            self._still_ready()
            for role in children.present():
                prepared.append(role)
                if not await self._prepare(role, loaded, fresh):
                    prepared.remove(role)
                self._still_ready()
            for role in roles(config):
                if role not in children.roles():
                    told = configuration(role, loaded.plain, loaded.credentials, loaded.ca_files, parent.source)
                    await children.add(role, told)
                    added.append(role)
                    self._still_ready()
            ports.listen(loaded.listeners, parent.opened())
        except BaseException:
            for role in added:
                children.retire(role)
            for role in prepared:
                children.tell(role, "abandon")
            ports.close(opened)
            ports.listen((), parent.opened())
            if loaded.access_log is not None and loaded.access_log is not parent.access_log:
                loaded.access_log.close()
            parent.names.only(names_of(parent.config, parent.routes))
            children.release()
            if parent.state == "ready":
                parent.key_sets.use(key_set_urls(parent.config))
                parent.certificates.start()
            raise
        unused = parent.adopt(loaded)
        await self._commit(prepared, unused)
        parent.close_unused(unused)
        children.release()
        parent.leave_unneeded()
        if parent.state == "ready":
            parent.certificates.start()
        return loaded.changes

    def _load(self, config: Config) -> Loaded:
        """Everything that can go wrong here; nothing is left open where it does."""
        parent = self.parent
        routes = effective_routes(config)
        store = CertificateStore(config, routes, time.time, parent.certificates.store)
        try:
            credentials = store.load()
        except (DcrouterError, OSError) as error:
            raise ReloadError("\n".join(f"certificates: {line}" for line in str(error).splitlines())) from error
        ca_files = read_ca_files(config)
        listeners = ports.bind_only(config, parent.opened())
        access_log = parent.access_log
        if config.access_log != parent.config.access_log:
            access_log = parent.make_access_log(config)
            try:
                if access_log is not None:
                    access_log.open()
            except StartError:
                ports.close(ports.opened_among(listeners, parent.opened()))
                raise
        return Loaded(
            config=config,
            plain=to_plain(config),
            routes=routes,
            store=store,
            credentials=credentials,
            ca_files=ca_files,
            listeners=listeners,
            access_log=access_log,
            changes=changes(parent.config, config),
        )

    def _still_ready(self) -> None:
        if self.parent.state != "ready":
            raise ReloadError(STOPPING)

    async def _prepare(self, role: str, loaded: Loaded, fresh: Sequence[Listener]) -> bool:
        """False where it has to be another process: code of the operator's that hangs keeps no reload from happening,
        be it the one that mends it.
        """
        children = self.parent.children
        assert children is not None
        for kind, fields, fds in _told(role, loaded, fresh, self.parent.certificates.credentials):
            children.tell(role, kind, fields, fds)
        try:
            within = PREPARED_WITHIN if role != "handlers" else HANDLERS_WITHIN
            answer = await children.ask(role, "prepare", timeout=within)
        except Unreachable as error:
            if role != "handlers":
                raise
            self._replace(role, error)
            return False
        if "error" in answer:
            raise ReloadError(f"{role}: {answer['error']}")
        return True

    async def _commit(self, prepared: Sequence[str], unused: Sequence[Listener]) -> None:
        """Those who are asked before those who ask: an edge may send mail connections of new ports at once, and both
        may name new code.
        """
        children = self.parent.children
        assert children is not None
        places = [(listener.address, listener.port) for listener in unused]
        for role in sorted(prepared, key=("handlers", "mail", "edge").index):
            try:
                await children.ask(role, "commit", {"unused": places}, timeout=CHANGED_WITHIN)
            except Unreachable as error:
                self._replace(role, error)

    def _replace(self, role: str, error: Unreachable) -> None:
        """By a process that begins with the new configuration; where all end, this one ends as they do."""
        if self.parent.children is not None and self.parent.state == "ready":
            self.log.error("reload: {problem}; another process takes its place", problem=str(error))
            self.parent.children.replace(role)


def _stopping() -> Outcome:
    return Outcome(at=time.time(), seconds=0.0, problems=(STOPPING,))


def _answer(asked: Sequence[Deferred[Outcome]], outcome: Outcome) -> None:
    for one in asked:
        one.callback(outcome)


def _told(
    role: str, loaded: Loaded, fresh: Sequence[Listener], known: Sequence[Credential]
) -> Iterator[tuple[str, dict[str, Any], list[int]]]:
    """What a child hears of a configuration, in pieces. Routes are the edge's business, and the handlers' some of them;
    sockets the edge's alone: `fresh` are those that it does not have yet. `known`: the credentials that it has.
    """
    routes: list[Any] = loaded.plain.get("routes", [])
    base = {"config": {**loaded.plain, "routes": []}, "ca_files": loaded.ca_files}
    yield "incoming", {**base, "order": order_of(loaded.credentials)}, []
    for fields in pieces(loaded.credentials, known):
        yield "credentials", fields, []
    if role != "edge":
        routes = of_handlers(routes) if role == "handlers" else []
    for start in range(0, len(routes), PIECE):
        yield "incoming_routes", {"routes": routes[start : start + PIECE]}, []
    if role == "edge":
        for start in range(0, len(fresh), PIECE):
            sockets = [listener.sock.fileno() for listener in fresh[start : start + PIECE]]
            yield "incoming_listeners", {}, sockets
