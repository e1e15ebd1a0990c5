"""One connection of the TCP half, top to bottom: header, limits, route, TLS, action, and one event at its end.

1. A PROXY header, where the peer must send one: the limits count the address behind it.
2. An authority's challenge is answered (proxy/challenges.py), and that is all.
3. The route: at once where no bytes are needed; else by the ClientHello, which is peeked and stays in the socket, so
   that passthrough needs no replay and the mail process gets the connection whole; on plain HTTP by each request.
4. TLS, where the route terminates it: the context is chosen before the handshake, never in a callback.
5. The action. Whatever ends the session, its sockets are closed once and its counters go back.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Literal

from dcrouter.errors import DcrouterError, NotAdmitted, Refused, TimedOut, TlsError, WireError, reason_of
from dcrouter.events import EndedBy, SessionClosed, termination
from dcrouter.facts import ConnectionFacts
from dcrouter.net.engine import Task
from dcrouter.net.relay import Direction
from dcrouter.net.stream import Plain, Stream, Tls
from dcrouter.proxy import challenges, peek
from dcrouter.proxy.admission import Admission
from dcrouter.proxy.bound import BoundRoute
from dcrouter.proxy.door import NOT_INTRODUCED
from dcrouter.proxy.http.connection import Connection
from dcrouter.proxy.http.exchange import Exchange
from dcrouter.proxy.linger import linger
from dcrouter.proxy.table import MORE, Answer
from dcrouter.tls import clients
from dcrouter.wire.clienthello import ALERT_INTERNAL_ERROR, ALERT_UNRECOGNIZED_NAME, ClientHello

if TYPE_CHECKING:
    from dcrouter.proxy.edge import Edge
    from dcrouter.proxy.listener import Listener


class Session:
    """What is known and held of one connection while it lives. `stream` is what the action talks to: plain or TLS."""

    __slots__ = (
        "_counted",
        "_marks",
        "bytes_in",
        "bytes_out",
        "edge",
        "ended_by",
        "entered",
        "facts",
        "heard",
        "idle",
        "listener",
        "moving",
        "phase",
        "plain",
        "reason",
        "route",
        "stream",
        "target",
        "task",
    )

    def __init__(
        self,
        edge: Edge,
        task: Task,
        listener: Listener,
        plain: Plain,
        facts: ConnectionFacts,
        entered: list[Admission],
    ) -> None:
        """`entered`: who has let it in at the door already."""
        self.edge = edge
        self.task = task
        self.listener = listener
        self.plain = plain
        self.stream: Stream = plain
        self.facts = facts
        self.route: BoundRoute | None = None
        self.target: str | None = None
        self.phase = ""
        self.heard = False
        """The client's first bytes are known to wait in its socket."""
        self.moving: tuple[Direction, Direction] | None = None
        """What relays between client and target: how much it has moved is in `bytes_in` and `bytes_out` at its end."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.ended_by: EndedBy = "router"
        self.reason = ""
        self.entered = entered
        self.idle = False
        """Between two requests: it can end now without anybody missing anything."""
        self._counted = (0, 0)
        self._marks: list[tuple[str, float]] | None = [] if edge.observed else None

    def enter(self, phase: str, seconds: float | None, timeout: str | None = None) -> None:
        """From now on it is `phase` (the word of the log), which ends in TimedOut(`timeout` or phase) after
        `seconds`. None: somebody else says when.
        """
        if seconds is not None:
            self.task.within(seconds, timeout or phase)
        self.phase = phase
        if self._marks is not None:
            self._marks.append((phase, time.monotonic()))

    def end(self, ended_by: EndedBy, reason: str) -> None:
        """Say who ended it and why; the first word counts."""
        if not self.reason:
            self.ended_by = ended_by
            self.reason = reason

    @property
    def relays_mail(self) -> bool:
        """Whether a mail half that is another service talks to the client."""
        route = self.route
        return self.phase == "relay" and route is not None and route.is_mail and not route.is_handed

    def hang_up(self, reason: str) -> None:
        """The target reads an end as if the client had left, and what it says then still arrives."""
        if not self.reason:
            self.end("router", reason)
            with contextlib.suppress(OSError):  # it has gone by itself
                self.plain.sock.shutdown(socket.SHUT_RD)

    async def serve(self) -> None:
        """The whole life of the connection. Raises only what is a defect of ours."""
        edge, plain, facts = self.edge, self.plain, self.facts
        try:
            plain.watch()
            introducers = self.listener.introducers
            if introducers is not None:
                seconds = introducers.timeout(facts.peer[0])
                if seconds is not None:
                    self.enter("proxy_header", seconds)
                    await peek.proxy_header(self)
                elif introducers.only:  # the door is not asked while authorities are awaited
                    raise NotAdmitted(NOT_INTRODUCED, edge.refusal(self.listener, facts, NOT_INTRODUCED))
            if self.listener.admission not in self.entered:
                self._admit(self.listener.admission)
            if (edge.challenges.shown or self.listener.responds) and await challenges.answered(self):
                return
            route = self.listener.table.only or await self._find()
            if route is MORE:
                await Connection(self).serve()
            elif route is None:
                self.end("router", "no route")
            else:
                self.use(route)
                if route.terminates and not route.is_handed:
                    await self._terminate(route)
                await route.action.run(self)
        except TimedOut as error:
            self.end("router", str(error))
        except (WireError, Refused) as error:
            self.end("router" if isinstance(error, Refused) else "client", str(error))
            if isinstance(error, NotAdmitted) and error.reply is None:
                plain.abort()
            else:
                self._say(error.reply)
        except DcrouterError as error:
            self.end("router", str(error))
        except OSError as error:
            self.end("client", reason_of(error))
        finally:
            plain.close()
            edge.ended(self.task)
            for admission in self.entered:
                admission.leave(facts.peer[0])
            self._count()
            if self.route is not None and self.phase != "handed over":
                ends, how = self.route.counters.ends, self._how()
                ends[how] = ends.get(how, 0) + 1
            if self._marks is not None:
                edge.observe(self._closed(self._marks))

    def use(self, route: BoundRoute) -> None:
        """It belongs to `route` from now on, and is counted there; NotAdmitted where that one does not let it in."""
        before, address = self.route, self.facts.peer[0]
        if before is not None and before.admission.present is route.admission.present:
            # The same route, of another table: who is in stays in.
            self.entered = [route.admission if one is before.admission else one for one in self.entered]
            route.admission.succeed(before.admission, address)
        elif route.admission not in self.entered:
            self._admit(route.admission)
            if before is not None:
                self.entered.remove(before.admission)
                before.admission.leave(address)
        if self.bytes_in or self.bytes_out:
            self._count()
        self.route = route
        self.facts.route = route.route.name
        if before is None or before.counters is not route.counters:
            route.counters.connections += 1
        if route.timeouts.lifetime and before is None:
            self.task.limit(route.timeouts.lifetime)

    def finished(self, exchange: Exchange, number: int, began: float) -> None:
        """A request, the `number`th of this connection, has been answered, or broken off."""
        if exchange.route is not None:
            exchange.route.counters.request(exchange.status, exchange.termination)
        self.bytes_in += exchange.received
        self.bytes_out += exchange.sent
        if self._marks is not None:
            self.edge.observe(exchange.done(number, began))

    def _count(self) -> None:
        """Add to the route's counters what has moved since the last time."""
        if self.route is not None:
            counters = self.route.counters
            counters.bytes_in += self.bytes_in - self._counted[0]
            counters.bytes_out += self.bytes_out - self._counted[1]
        self._counted = (self.bytes_in, self.bytes_out)

    async def _find(self) -> BoundRoute | Literal[Answer.MORE] | None:
        """The route; MORE where each request of the connection has its own; None for nobody's."""
        table, facts = self.listener.table, self.facts
        if table.terminates is not None and self.edge.fallback is None:
            return table.terminates
        found = table.find(facts)
        if found is not MORE:
            return found or self.edge.fallback
        if table.expects_http and not table.expects_tls and self.edge.fallback is None:
            return MORE
        self.enter("hello", self.edge.hello_timeout)
        first = await peek.first_bytes(self)
        self.heard = True
        if isinstance(first, ClientHello):
            facts.sni, facts.hello = first.sni, first
            route = table.find_tls(facts) or self.edge.fallback
            if route is None:
                raise Refused(f"no route for {facts.sni or 'a client without SNI'}", ALERT_UNRECOGNIZED_NAME)
            if not route.is_http:
                facts.hello = None  # no request will ask for it: let it go
            return route
        return MORE if table.expects_http else table.find_plain(facts) or self.edge.fallback

    def _admit(self, admission: Admission) -> None:
        if admission.limited:
            address = self.facts.peer[0]
            refused = admission.enter(address)
            if refused is not None:
                if self.route is None:
                    for before in self.entered:
                        before.forgive(address)
                raise NotAdmitted(refused, self.edge.refusal(self.listener, self.facts, refused))
        else:
            admission.present.connections += 1
        self.entered.append(admission)

    def hand_over(self) -> None:
        """Somebody else has the socket and reports its end: nothing is logged here, and the counters stay entered."""
        self._marks = None
        self.entered = []
        self.phase = "handed over"

    def wish(self, route: BoundRoute) -> None:
        """Tell of the name that the client asks for, where an authority may have to certify it first."""
        wishes, sni, tls = self.edge.wishes, self.facts.sni, route.route.tls
        asks = wishes.wanted and tls is not None and tls.certificate == "auto"
        if asks and sni and not self.edge.chooser.certified(sni):
            wishes.wish(sni)

    async def _terminate(self, route: BoundRoute) -> None:
        facts, tls = self.facts, route.route.tls
        assert tls is not None
        self.enter("tls", route.timeouts.hello, "hello")
        if self.edge.wishes.wanted:
            self.wish(route)
        try:
            context = self.edge.chooser.web_context(
                tls.certificate, facts.sni, route.certified_name, route.alpn, route.clients
            )
        except TlsError as error:
            raise WireError(str(error), ALERT_INTERNAL_ERROR) from error
        stream = Tls(self.plain, context, serves=True)
        try:
            await stream.handshake()
        except (TlsError, OSError) as error:
            rejected = clients.rejected(stream.connection) if route.clients is not None else None
            self.end("client", f"TLS handshake: {rejected or error}")
            if route.clients is not None and isinstance(error, TlsError):
                await linger(self, self.plain)  # what comes behind the certificate would swallow the alert
            raise
        self.stream = stream
        if route.clients is not None:
            facts.client_certificate = clients.subject(stream.connection)
        if self._marks is not None or route.asks:
            facts.sni = facts.sni or stream.asked_name()
            facts.alpn = stream.connection.get_alpn_proto_negotiated().decode("latin-1") or None
            facts.tls_version = stream.connection.get_protocol_version_name()

    def _say(self, reply: bytes | None) -> None:
        """A last word to a client that is turned away: what fits into its socket now, and no waiting."""
        if reply:
            peek.discard(self.plain)
            try:
                self.stream.send(reply)
            except (OSError, DcrouterError):
                return

    def _how(self) -> str:
        """The termination code; the end of a connection to nowhere is the target's, though nobody was there."""
        who = "target" if self.phase == "connect" and self.ended_by == "router" else self.ended_by
        return termination(who, self.phase, self.reason)

    def _closed(self, marks: list[tuple[str, float]]) -> SessionClosed:
        phases: dict[str, float] = {}
        end = time.monotonic()
        for phase, began in reversed(marks):
            phases[phase] = round(phases.get(phase, 0.0) + end - began, 6)
            end = began
        return SessionClosed(
            **self.facts.to_plain(),
            target=self.target,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            phases=dict(reversed(phases.items())),
            ended_by=self.ended_by,
            termination=self._how(),
            reason=self.reason or "closed",
        )
