"""The TCP half as one object: the engine with its listeners, the table, and what the parent tells about both.

The edge owns the listening sockets it was given and every connection until it ends or is handed over.
"""

from __future__ import annotations

import resource
import socket
import time
from _socket import socket as RawSocket
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dcrouter.config.admin import Config
from dcrouter.config.rates import Rate
from dcrouter.config.tls import CertificateFiles
from dcrouter.errors import Refused
from dcrouter.events import RequestDone, SessionClosed, termination
from dcrouter.facts import ConnectionFacts
from dcrouter.net.channel import Channel
from dcrouter.net.engine import IN, OUT, Engine, Task
from dcrouter.net.limits import Buckets
from dcrouter.net.pipes import Pipes
from dcrouter.net.slices import Steps, finished, in_slices, released
from dcrouter.net.stream import Plain
from dcrouter.proxy.admission import Admission
from dcrouter.proxy.asking import Asking
from dcrouter.proxy.census import MOST_COUNTED, counted, kill, page, pieces, together
from dcrouter.proxy.challenges import Challenges
from dcrouter.proxy.decide import decide
from dcrouter.proxy.door import NOT_INTRODUCED, turn_away
from dcrouter.proxy.listener import Listener, Listeners
from dcrouter.proxy.plan import Plan, made
from dcrouter.proxy.question import Question
from dcrouter.proxy.session import Session
from dcrouter.proxy.state import State
from dcrouter.proxy.taker import Taker
from dcrouter.proxy.wishes import Wishes
from dcrouter.targets.addresses import Addresses
from dcrouter.tls.chooser import Chooser
from dcrouter.tls.credential import Credential
from dcrouter.tls.keysets import KeySets
from dcrouter.wire.mapped import unmapped

RESERVED = 256
"""Descriptors kept for listeners, channels and pipes when the limit of connections is derived from the limit of
files.
"""
PAUSE = 0.1
"""Seconds a listener rests when descriptors have run out."""
NEWS = Rate(rate=(1, 60.0))
"""How often the log tells of such rests, of one target that cannot be reached, of one kind of refusal."""
LAST_WORDS = 1.0
"""Seconds for a mail half apart to say 421 to a client whose session we end."""

OTHERS_RESERVED = 1024
"""Descriptors that the processes which take connections over, and have the same limit of files, keep for their own."""

Bound = tuple[str, int]
"""(address, port) of a listening socket."""


class Edge:
    """`observe` gets a SessionClosed for each finished connection, or is None: then nothing is collected for it."""

    def __init__(
        self,
        config: Config,
        chooser: Chooser,
        ca_files: Mapping[str, bytes],
        reactor: Any,
        observe: Callable[[SessionClosed | RequestDone], None] | None,
    ) -> None:
        self._reactor = reactor
        self._log = Logger()
        self.engine = Engine(reactor)
        self.pipes = Pipes()
        self.addresses = Addresses()
        self.state = State()
        self.key_sets = self.state.keep(KeySets)
        self.challenges, self.wishes = Challenges(), Wishes()
        self.asking = self.state.keep(Asking)
        self.asking.reactor = reactor
        self._listeners = Listeners()
        self._accepting = False
        self._begun = False
        self._use(finished(made(config, self.state, self.addresses, ca_files, self._credential)), chooser, observe)
        self._draining: Deferred[None] | None = None
        self.is_draining = False
        self._drain_began = 0.0
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._capacity = max((limit - RESERVED) // 2, 16)
        others = max(limit - OTHERS_RESERVED, limit // 4)
        self.mail = Taker(reactor, others, self._resume)
        self.handlers = Taker(reactor, others, self._resume, self._handlers_lost)
        self.takers = {"mail": self.mail, "handlers": self.handlers}
        self._resting = False
        self._news = Buckets(NEWS, reactor.seconds, most=MOST_COUNTED)
        self._number = 0
        self._prefix = f"{int(time.time() * 1000):x}-"
        self._sessions: dict[Task, Session] = {}
        self.accepted = 0
        self.pauses = 0
        self.failed_connects: dict[str, int] = {}
        self.refused: dict[str, int] = {}

    # What the parent tells.

    def listen(self, *socks: socket.socket, responds: bool = False) -> None:
        """Own bound listening sockets; they accept from `start` on. `responds`: for http-01 alone, see `respond`."""
        places = {sock.getsockname()[:2] for sock in socks}
        self._listeners.end(lambda one: one.responds and one.bound in places)
        plan = self.plan
        for sock in socks:
            port = sock.getsockname()[1]
            table, admission = plan.table(port), plan.admission(port)
            self._listeners.append(Listener(self, sock, table, admission, plan.introducers(port), responds=responds))
        self._resume()

    def respond(self, socks: Iterable[socket.socket]) -> None:
        """Own these listening sockets too, of no route, and no others of their kind: challenges are answered there."""
        self._listeners.end(lambda one: one.responds)
        self.listen(*socks, responds=True)

    def believe(self, ca_files: Mapping[str, bytes]) -> None:
        """Authorities and revocation lists have changed."""
        self.plan.believe(ca_files)

    def prepare(self, config: Config, ca_files: Mapping[str, bytes]) -> Steps[Plan]:
        """The plan of another configuration, while this one is in use; raises what `made` does."""
        return made(config, self.state, self.addresses, ca_files, self._credential)

    def reload(
        self,
        plan: Plan,
        chooser: Chooser,
        observe: Callable[[SessionClosed | RequestDone], None] | None,
        opened: Iterable[socket.socket] = (),
        unused: Container[Bound] = (),
    ) -> Deferred[None]:
        """Use `plan` from now on, `opened` listening sockets too, and those at `unused` places no more.

        Sessions go on with the route that they have. Fires when what was before has been let go of.
        """
        before = self.plan
        self._use(plan, chooser, observe)
        self._listeners.end(lambda one: one.bound in unused)
        for listener in self._listeners:
            port = listener.port
            listener.serve(plan.table(port), plan.admission(port), plan.introducers(port))
        self.listen(*opened)
        if self._begun:
            for service in before.services:
                service.end()
        return in_slices(self._reactor, released(before.routes))

    def start(self) -> None:
        """Accept from now on."""
        self.engine.start()
        self._begun = True
        for service in self.plan.services:
            service.begin(self.engine)
        self._accepting = True
        self._resume()

    def met(self, role: str, channel: Channel | None) -> None:
        """The process of that role is there, though it may not be at work yet; or (None) gone."""
        self.takers[role].meet(channel)
        if channel is None and role == "handlers":
            self.asking.meet(None)

    def living(self, role: str, session: str, address: str, route: str | None) -> None:
        """The process of that role has a connection that an edge before this one has handed over."""
        self.takers[role].living(session, address, self.plan.entered(role, route))

    def drain(self) -> Deferred[None]:
        """Accept no more; fires when every connection has ended, by itself or after its route's timeouts.drain."""
        if self._draining is None:
            self._draining = Deferred()
            self.is_draining = True
            self._drain_began = time.monotonic()
            self._accepting = False
            self._listeners.end()
            self._watch_drain()
        return self._draining

    def stop(self) -> None:
        """Close everything at once."""
        self._accepting = False
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._begun:
            for service in self.plan.services:
                service.end()
        self.engine.stop()
        self.asking.stop()
        self.plan.pool.clear()
        self.engine.settle()
        self.pipes.close()

    def status(self) -> dict[str, Any]:
        """Counters since the start, JSON-ready; `routes` and `targets` by name."""
        return together(self.totals(), self.counted())

    def totals(self) -> dict[str, Any]:
        """What `status` tells of all together."""
        selects = {one.name: one.record.shown(self.engine.now) for one in self.plan.selections}
        return {
            **({"select": selects} if selects else {}),
            "accepted": self.accepted,
            "active": len(self._sessions),
            "handed_over": sum(map(len, self.takers.values())),
            "pauses": self.pauses,
            "failed_connects": self.failed_connects,
            "refused": self.refused,
        }

    def counted(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """By name, in pieces."""
        return pieces(self.plan, self.engine.now)

    def connections(self, after: str | None, most: int) -> dict[str, Any]:
        """See proxy/census.py."""
        return page(self._sessions.values(), after, most)

    def decide(self, question: Question) -> dict[str, Any]:
        """See proxy/decide.py."""
        return decide(self.plan.table(question.port), self.plan.fallback, question)

    def kill(self, session: str) -> int:
        """How many it was."""
        return kill(list(self._sessions.values()), session)

    # What listeners and sessions ask for.

    def connected(self, listener: Listener, sock: RawSocket | int, peer: tuple[Any, ...]) -> None:
        """A new connection: its session runs at once up to its first wait, unless it is turned away."""
        self.accepted += 1
        self._number += 1
        address = unmapped(peer[0])
        entered: list[Admission] = []
        # Authorities come from anywhere: while they are awaited, the session tells whom no route lets in.
        asks = listener.door.guarded and not self.challenges.shown
        refused = listener.door.refuses(address, entered) if asks else None
        local = listener.address
        if local is None:
            local = "0.0.0.0" if isinstance(sock, int) or not listener.ask_local else _local(sock)
        facts = ConnectionFacts(
            f"{self._prefix}{self._number:x}", (address, peer[1]), (local, listener.port), time.time()
        )

        if refused is not None:
            self._turn_away(listener, sock, facts, refused)
            return

        task = Task(self.engine)
        session = Session(self, task, listener, Plain(task, sock, IN | OUT), facts, entered)
        self._sessions[task] = session
        self.engine.begin(task, session.serve())
        if len(self._sessions) >= self._capacity:
            self.exhausted(None)

    def ended(self, task: Task) -> None:
        """A session is over."""
        del self._sessions[task]

    def exhausted(self, error: OSError | None) -> None:
        """Descriptors have run out, or are about to: every listener rests a moment, and what is open goes on."""
        if self._resting:
            return
        self._resting = True
        self.plan.pool.clear()
        self.pauses += 1
        for listener in self._listeners:
            listener.pause()
        if self._news.take("descriptors"):
            self._log.warn(
                "out of descriptors at {active} connections, accepting again in {pause} s: {cause}",
                active=len(self._sessions),
                pause=PAUSE,
                cause=error.strerror if error else f"the limit of open files allows {self._capacity}",
            )
        self._reactor.callLater(PAUSE, self._rested)

    def refusal(self, listener: Listener, facts: ConnectionFacts, reason: str) -> bytes | None:
        """Count a connection that is not let in; what it is told (Plan.refusal)."""
        count = counted(self.refused, reason)
        if reason == NOT_INTRODUCED and self._news.take(reason):
            words = (
                "{peer} is turned away from port {port}: no edge of email.remote.from has this address "
                "({count} since the start)"
            )
            self._log.warn(words, peer=facts.peer[0], port=listener.port, count=count)
        return self.plan.refusal(listener.table, facts)

    def connect_failed(self, label: str, reason: str) -> None:
        """A target could not be reached; counted per target, and told."""
        count = counted(self.failed_connects, label)
        if self._news.take(("target", label)):
            words = "cannot connect to {target}: {reason} ({count} since the start)"
            self._log.warn(words, target=label, reason=reason, count=count)

    # Inside.

    def _use(self, plan: Plan, chooser: Chooser, observe: Callable[[SessionClosed | RequestDone], None] | None) -> None:
        self.plan = plan
        self.fallback = plan.fallback
        self.hello_timeout = plan.config.defaults.timeouts.hello
        self.wishes.wanted = plan.config.certificates.on_demand is not None
        self.chooser = chooser
        self.observed = observe is not None
        self.observe: Callable[[SessionClosed | RequestDone], None] = observe or (lambda event: None)
        if self._begun:
            for service in plan.services:
                service.begin(self.engine)

    def _credential(self, files: CertificateFiles) -> Credential:
        return self.chooser.credential(files)

    def _turn_away(self, listener: Listener, sock: RawSocket | int, facts: ConnectionFacts, reason: str) -> None:
        if isinstance(sock, int):
            sock = RawSocket(listener.family, socket.SOCK_STREAM, 0, sock)
        turn_away(sock, self.refusal(listener, facts, reason))
        self._tell_end(facts, "", reason)

    def _handlers_lost(self, facts: ConnectionFacts) -> None:
        self._tell_end(facts, "handler", "the handlers process has died")

    def _tell_end(self, facts: ConnectionFacts, phase: str, reason: str) -> None:
        """Of a connection that has no session here."""
        if self.observed:
            how = termination("router", phase, reason)
            fields = facts.to_plain()
            self.observe(SessionClosed(**fields, phases={}, ended_by="router", termination=how, reason=reason))

    def _resume(self) -> None:
        if self._resting or not self._accepting:
            return
        for listener in self._listeners:
            if listener.table.hands_mail and not self.mail.ready:
                listener.pause()
            else:
                listener.start()

    def _rested(self) -> None:
        if len(self._sessions) >= self._capacity:
            self._reactor.callLater(PAUSE, self._rested)
            return
        self._resting = False
        self._resume()

    def _watch_drain(self) -> None:
        elapsed = time.monotonic() - self._drain_began
        for task, session in list(self._sessions.items()):
            timeouts = session.route.timeouts if session.route is not None else self.plan.config.defaults.timeouts
            late = elapsed - timeouts.drain if timeouts.drain else -1.0
            if late < 0 and not session.idle:
                continue
            if late >= LAST_WORDS or not session.relays_mail:
                task.throw(Refused("drained"))
            else:
                session.hang_up("drained")
        if self._sessions:
            self._reactor.callLater(PAUSE, self._watch_drain)
        elif self._draining is not None and not self._draining.called:
            self._draining.callback(None)


def _local(sock: RawSocket) -> str:
    return unmapped(sock.getsockname()[0])
