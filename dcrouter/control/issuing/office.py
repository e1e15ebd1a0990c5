"""Automatic certificates of one parent: who is asked, what the edge shows, which port is opened.

The parent calls, in this order: `open` (as whoever started it), `load`, `use`, `start` (when the service is ready) and
`stop`; `use` again after each reload.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from socket import socket
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThread

from dcrouter.config.acme import Acme, AcmeKeyType, DnsProvider
from dcrouter.config.admin import Config
from dcrouter.config.routes import Route
from dcrouter.control.children import Children
from dcrouter.control.issuing import answers
from dcrouter.control.issuing.answers import Answers, Fields, HttpSolver, TlsSolver
from dcrouter.control.issuing.desk import Desk
from dcrouter.control.issuing.issuing import Issuing
from dcrouter.control.issuing.kept import Kept
from dcrouter.control.issuing.ondemand import Asker
from dcrouter.control.issuing.responder import Responder
from dcrouter.control.ports import Bound, Listener
from dcrouter.errors import StartError, Unreachable
from dcrouter.tls.acme.challenges import Solver
from dcrouter.tls.acme.command import CommandSolver
from dcrouter.tls.credential import Credential, PrivateKey
from dcrouter.tls.names import covers
from dcrouter.tls.store import CertificateStore
from dcrouter.tls.wanted import is_orderable
from dcrouter.wire.hostname import host_name

SHOWN_WITHIN = 5.0
"""Seconds for the edge to say that it shows a proof."""

STOPPED_WITHIN = 10.0
"""Seconds for challenges to be put away at the end."""


class ToEdge:
    """The way to the edge process, of which there may be none at times."""

    def __init__(self, children: Callable[[], Children | None]) -> None:
        self._children = children

    def tell(self, kind: str, fields: Fields, fds: Sequence[int] = ()) -> None:
        """A later one learns from the greeting."""
        children = self._children()
        if children is not None:
            children.tell("edge", kind, fields, fds)

    def ask(self, kind: str, fields: Fields, timeout: float) -> Deferred[Fields]:
        """Its answer; Unreachable where there is none."""
        children = self._children()
        if children is None:
            return fail(Unreachable("there is no edge process"))
        return children.ask("edge", kind, fields, timeout)


class Office:
    """`edge`: the way there; `issued` is called when `credentials` gives something new."""

    def __init__(
        self,
        config: Config,
        reactor: Any,
        edge: ToEdge,
        issued: Callable[[], None],
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self._edge = edge
        self._listeners: tuple[Listener, ...] = ()
        self._routes: tuple[Route, ...] = ()
        self._config = config
        self._spare: Mapping[Bound, socket] = {}
        self._store: CertificateStore | None = None
        self._http_port, self._tls_port = answers.HTTP_PORT, answers.TLS_PORT
        self.kept = Kept(config.state_dir, clock)
        self.responder = Responder(self._http_port)
        self.answers = Answers(self._show)
        self.issuing = Issuing(reactor, self.kept, issued, self._solvers, self._key, clock=clock, chance=chance)
        self.asker = Asker(reactor, self.issuing.demand, reactor.seconds)
        self.issuing.may_renew = self.asker.may
        self.desk = Desk(self.issuing, reactor)

    def open(self, config: Config, listeners: Iterable[Listener], spare: Mapping[Bound, socket]) -> None:
        """The port that http-01 may need, or one of the `spare` sockets; one that cannot be opened stops nobody."""
        self.responder.use(config, listeners, spare)

    def load(self) -> None:
        """What is on disk; StartError where that cannot be read."""
        try:
            self.kept.load()
        except OSError as error:
            raise StartError(f"{error.filename}: {error.strerror}") from error

    def credentials(self) -> tuple[Credential, ...]:
        """For the store."""
        return self.issuing.credentials()

    def use(
        self,
        config: Config,
        routes: tuple[Route, ...],
        listeners: tuple[Listener, ...],
        spare: Mapping[Bound, socket],
    ) -> None:
        """This is the configuration from now on; the port is opened or closed as that wants it."""
        self._routes, self._listeners = routes, listeners
        self._config, self._spare = config, spare
        self._open()
        certificates = config.certificates
        self.asker.use(certificates.on_demand if certificates.acme is not None else None)

    def want(self, config: Config, store: CertificateStore) -> None:
        """See to the names that this store, which has loaded, wants."""
        self._store = store
        self.issuing.use(config.certificates.acme, store.wanted())

    def start(self) -> None:
        """The service is ready: look for certificates."""
        self.issuing.start()

    def stop(self) -> Deferred[Any]:
        """Fires when nothing is shown or asked any more, or STOPPED_WITHIN has passed."""
        self.asker.stop()
        return self.issuing.stop().addTimeout(STOPPED_WITHIN, self._reactor).addErrback(lambda _: None)

    def close(self) -> None:
        """Let go of the port."""
        self.responder.close()

    def wished(self, name: str) -> None:
        """A client has asked for `name`, and the edge has no certificate for it."""
        acme = self.issuing.acme
        try:
            name = host_name(name.encode())
        except (ValueError, UnicodeError):
            return
        if acme is None or self._store is None or not is_orderable(name, acme):
            return
        if not (self._store.covers(name) or covers(self.kept.credentials, name) or name in self.issuing.names):
            self.asker.wish(name)

    def _open(self) -> None:
        """What http-01 needs now."""
        if self.responder.use(self._config, self._listeners, self._spare):
            self._edge.tell("responder", *self.responding())

    # What an edge is told.

    def shown(self) -> Fields:
        """Everything that it shows to authorities."""
        return {**self.answers.fields(), "port": self._http_port}

    def responding(self) -> tuple[Fields, list[int]]:
        """The sockets on which it answers nobody else."""
        return {}, [sock.fileno() for sock in self.responder.sockets.values()]

    def _show(self, fields: Fields) -> Deferred[Fields]:
        return self._edge.ask("challenges", {**fields, "port": self._http_port}, SHOWN_WITHIN)

    # How names are proved, and with which keys.

    async def _key(self, name: str, key_type: AcmeKeyType) -> PrivateKey:
        """Of the next certificate of a name. RSA takes seconds, in OpenSSL: in a thread."""
        assert self._store is not None
        keys = self._store.keys
        if key_type.startswith("rsa"):
            return await deferToThread(keys.key_for, (name,), key_type)
        return keys.key_for((name,), key_type)

    def _solvers(self, acme: Acme) -> dict[str, Solver]:
        makers: dict[str, Callable[[], Solver | None]] = {
            "tls-alpn-01": lambda: TlsSolver(self.answers, self._tls_problem),
            "http-01": lambda: HttpSolver(self.answers, self._http_problem),
            "dns-01": lambda: dns_solver(self._reactor, acme.dns),
        }
        made = {kind: makers[kind]() for kind in acme.challenges}
        return {kind: solver for kind, solver in made.items() if solver is not None}

    def _tls_problem(self, name: str) -> str | None:
        if not any(listener.port == self._tls_port for listener in self._listeners):
            return f"no route listens on port {self._tls_port}"
        for route in self._routes:
            through = route.tls is not None and route.tls.mode == "passthrough" and name in (route.match.domains or ())
            if through and any(self._tls_port in given for given in route.match.ports):
                return f"the route {route.name} passes its TLS through"
        return None

    def _http_problem(self) -> str | None:
        if self.responder.problem is not None:
            self._open()  # it may be free by now
        if self.responder.sockets or any(listener.port == self._http_port for listener in self._listeners):
            return None
        return self.responder.problem or f"nothing listens on port {self._http_port}"


def dns_solver(reactor: Any, dns: DnsProvider | None) -> Solver | None:
    """Of `certificates.acme.dns`."""
    if dns is None:
        return None
    if dns.provider == "exec":
        return CommandSolver(reactor, dns.command or ())
    assert dns.server is not None and dns.key_name is not None and dns.key_secret is not None
    secret = str.__str__(dns.key_secret).strip()
    from dcrouter.tls.acme.rfc2136 import UpdateSolver  # see tap.py

    return UpdateSolver(reactor, dns.server.host, dns.server.port or 53, key_name=dns.key_name, secret=secret)
