"""One next hop: its connections, what waits for one, and whether it answers at all.

1. A message takes an idle connection, or opens one (bounded here and overall), or waits.
2. When the last connection that could have served them fails, all that wait are told `unreachable` and may go
   elsewhere; for a while afterwards new ones hear so at once. When it answers again, `recovered` is told.
3. What waits for a next hop that is slow is cut down to a few, so that the others' mail is not behind it.
4. One that says 421 and takes nothing is left alone, twice as long each time, then tried with one connection.
5. Its gates (mail/shaping) say how many connections there may be, what each may carry, and when a message may leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.errors import TlsError
from dcrouter.mail.delivery.beginning import Beginning
from dcrouter.mail.delivery.client import Connection
from dcrouter.mail.delivery.dial import Dialer, Reached, Unbound
from dcrouter.mail.delivery.egress.proxies import LiveProxy
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.mail.delivery.outcome import Postponed
from dcrouter.mail.delivery.patience import Patience
from dcrouter.mail.delivery.security import Contexts
from dcrouter.mail.delivery.seen import Observe, Seen
from dcrouter.mail.delivery.sending import Sending, Trouble
from dcrouter.mail.queue.waits import RATE, rate_reached
from dcrouter.mail.shaping.gate import STALLED, Gate
from dcrouter.mail.shaping.gates import Gates
from dcrouter.mail.shaping.line import Line
from dcrouter.wire.smtp.address import split
from dcrouter.wire.smtp.opening import NO_LOGIN

LONGEST_AWAY = 600.0
"""Seconds for which a next hop that says 421 is left alone."""

SLOW = 10.0
"""Seconds that a message waits for a connection before its next hop counts as slow."""

KEPT_BY_SLOW = 100
"""Messages that may wait for a slow next hop; all others are deferred, and woken when these have gone."""

WOKEN_AT_LATEST = 600.0
"""Seconds after which a message comes again that waits for a gate behind which too many wait."""


class Destination:
    """`name`: ours, for EHLO. `recovered` is called with `hop.target`. `seen`, where given, hears how the TLS of its
    sessions goes.
    """

    _log = Logger()

    def __init__(
        self,
        hop: NextHop,
        dialer: Dialer,
        *,
        name: str,
        contexts: Contexts,
        gates: Gates,
        recovered: Callable[[str], None],
        reactor: Any,
        patience: Patience,
        seen: Observe | None = None,
    ) -> None:
        self.hop = hop
        self.target = hop.target
        self.dialer = dialer
        self._beginning = Beginning(hop, name, contexts, reactor)
        self.gates = gates
        self._recovered = recovered
        self._seen = seen
        self._reactor = reactor
        self.patience = patience
        self._waiting = Line(gates, reactor.seconds)
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._proxied: dict[Connection, LiveProxy] = {}
        self._opening: set[Deferred[Any]] = set()
        self._failures = 0
        self._down_until = 0.0
        self._away = 0.0  # seconds, since it said 421 and until it takes a message
        self.trouble: Trouble | None = None  # the last one, until it answers again
        self._cut_down = False
        self._watch: IDelayedCall | None = None
        self._closed = False

    def send(self, sending: Sending) -> None:
        """One of its methods is called, once, perhaps before this returns."""
        if self._closed or (not self._idle and self._reactor.seconds() < self._down_until):
            sending.unreachable(self.trouble or Trouble(self.target, "closing"))
        elif (later := self.gates.book(sending.ticket)) is not None:
            sending.postponed(Postponed(rate_reached(later.name), f"{RATE}{later.name}", later.seconds))
        elif len(self._waiting) >= KEPT_BY_SLOW and self._slow():
            self._too_many(sending)
        elif self._waiting and (gate := self.gates.crowded()) is not None:
            self._too_many_behind(gate, sending)
        elif self._idle and not self._waiting and self.gates.free() >= 1:
            self._carry(sending)
        else:
            self._waiting.append(sending)
            self._serve()
            self._look_later()

    def again(self, sending: Sending) -> None:
        """A further transaction for a message that was let go already: it is the next, as soon as one may leave."""
        if self._closed:
            sending.unreachable(Trouble(self.target, "closing"))
        else:
            self._waiting.put_first(sending)

    @property
    def down(self) -> bool:
        """Whether it was found unreachable just now."""
        return bool(self._reactor.seconds() < self._down_until) or self.dialer.down

    def proxy_back(self) -> None:
        """One of the proxies on the way works again: who waits for that is told."""
        self.try_again()
        if self.trouble is not None:
            self._recovered(self.target)

    def try_again(self) -> None:
        """The next message is a new attempt to reach it."""
        self._down_until = 0.0

    @property
    def quiet(self) -> bool:
        """Whether nothing is lost by forgetting it."""
        busy = self._connections or self._opening or self._waiting or self._beginning.in_clear
        return not busy and self.trouble is None and self.gates.quiet

    def close(self) -> None:
        """Ends every connection; whatever is under way is unreachable."""
        self._closed = True
        self.gates.leave(self)
        for opening in list(self._opening):
            opening.cancel()
        for connection in list(self._connections):
            if connection in self._idle:
                connection.leave(now=True)
            else:
                connection.abort("closing")
        self._idle.clear()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._refuse_waiting(Trouble(self.target, "closing"))

    # ------------------------------------------------------------------ what connections tell

    def ready(self, connection: Connection) -> None:
        if connection.carried:
            self._away = 0.0
        if self.trouble is not None and not self._away:
            self._up()
        if self._closed or self.gates.enough(connection.carried, self._reactor.seconds() - connection.since):
            connection.leave()  # its slot is free when it has ended
            return
        self._idle.append(connection)
        self._serve()
        if self._cut_down and len(self._waiting) <= KEPT_BY_SLOW // 2:
            self._cut_down = False
            self._recovered(self.target)

    def tired(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        connection.leave()

    def turned_away(self, connection: Connection, trouble: Trouble) -> None:
        if not any(one.carried for one in self._connections if one is not connection):
            self._pause(trouble, away=True)

    def broken(self, connection: Connection, sending: Sending | None, trouble: Trouble) -> None:
        self._gone(connection)
        if connection.no_tls:
            self._tell(connection, self._waiting if sending is None else (sending,))
        if sending is not None:
            if connection.untouched and not self._closed:
                self._waiting.put_first(sending)  # the server had closed a kept connection
            else:
                sending.unreachable(trouble)
        if connection.established:
            self._open()
        elif connection.no_tls and not self._closed and self._beginning.falls_back():
            self._log.info("{target}: {reason}; in clear for a while", target=self.target, reason=trouble.reason)
            self._open()
        else:
            self.dialer.turn()
            self._failed(trouble, tried_all=trouble.status == NO_LOGIN, away=connection.said_421)

    # ------------------------------------------------------------------ opening

    def open_again(self) -> None:
        """There is room for a connection."""
        self._open()

    def spare(self) -> bool:
        """The room is needed for another next hop: whether an idle connection leaves."""
        if not self._idle:
            return False
        self._idle.pop(0).leave()
        return True

    def token(self) -> None:
        """A message may leave."""
        self._serve()

    def _serve(self) -> None:
        """Idle connections carry what waits, as far as it may leave now; more of them are opened."""
        while self._idle and self._waiting:
            if self.gates.free() < 1:
                self.gates.line_up(self)
                break
            self._carry(self._waiting.next())
        while self._idle and self.gates.wanted:
            self.spare()
        self._open()

    def _carry(self, sending: Sending) -> None:
        """It leaves now, by an idle connection."""
        self.gates.spend()
        connection = self._idle.pop()
        if self._seen is not None and not self._beginning.in_clear:
            self._tell(connection, (sending,))
        connection.send(sending)

    def _tell(self, connection: Connection, sendings: Iterable[Sending]) -> None:
        """How its TLS went, once for each domain that it serves, or should have served."""
        if self._seen is None:
            return
        domains = {split(address)[1].lower() for sending in sendings for address in sending.transaction.recipients}
        domains -= connection.told
        if domains:
            connection.told |= domains
            self._seen(
                domains,
                Seen(
                    hop=self.hop,
                    address=connection.peer.address,
                    ours=connection.ours,
                    failure=connection.failure,
                    reason=connection.problem,
                ),
            )

    def _open(self) -> None:
        """One more connection, if more messages wait, and may leave, than connections are on their way."""
        if self._closed or not self._waiting or (self._away and (self._connections or self._opening)):
            return
        coming = len(self._opening) + sum(1 for one in self._connections if not one.established)
        free = self.gates.free()
        if free < 1:
            self.gates.line_up(self)
        if coming >= min(len(self._waiting), free) or not self.gates.take(self):
            return
        try:
            factory = self._beginning.factory(self, self.patience)
        except TlsError as error:
            self._failed(Trouble(self.target, str(error), "4.7.5"), tried_all=True)
            self.gates.give(self)
            return
        opening = self.dialer.connect(factory)
        self._opening.add(opening)
        opening.addBoth(self._opened, opening)

    def _opened(self, result: Reached | Failure, opening: Deferred[Any]) -> None:
        self._opening.discard(opening)
        if isinstance(result, Failure):
            unbound = result.check(Unbound) is not None
            self._failed(Trouble(self.target, result.getErrorMessage(), unbound=unbound), tried_all=True)
            self.gates.give(self)
            return
        connection: Connection = result.protocol
        connection.opened(result.address, result.through)
        connection.since = self._reactor.seconds()
        if self._seen is not None:
            connection.ours = connection.local()
        self._connections.add(connection)
        if result.proxy is not None:
            self._proxied[connection] = result.proxy
        if self._closed:
            connection.abort("closing")

    def _gone(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            self.gates.give(self)
            proxy = self._proxied.pop(connection, None)
            if proxy is not None:
                proxy.state.leave()
        if connection in self._idle:
            self._idle.remove(connection)

    def _up(self) -> None:
        """It answers; who waits for it elsewhere is told, if anybody may."""
        self.trouble = None
        self._failures = 0
        self._down_until = 0.0
        self._recovered(self.target)

    def _failed(self, trouble: Trouble, *, tried_all: bool = False, away: bool = False) -> None:
        """A connection that never served. While others do, those that wait are theirs."""
        if trouble.status == NO_LOGIN:
            self._log.error("{target}: {reason}; its mail waits", target=self.target, reason=trouble.reason)
        self._failures = self.dialer.known if tried_all else self._failures + 1
        if self._connections or self._opening:
            return
        if self._failures < self.dialer.known:
            self._open()  # another address of the same host
            return
        self._failures = 0
        self._pause(trouble, away=away)

    def _pause(self, trouble: Trouble, *, away: bool) -> None:
        pause = self.patience.down
        if away:
            pause = self._away = min(max(2 * self._away, pause), LONGEST_AWAY)
        self._down_until = self._reactor.seconds() + pause
        self.trouble = trouble
        self._refuse_waiting(trouble)

    def _refuse_waiting(self, trouble: Trouble) -> None:
        for sending in self._waiting.cut(0):
            sending.unreachable(trouble)

    def stand_still(self, outcome: Postponed) -> None:
        """Nothing that waits leaves now."""
        for sending in self._waiting.cut(0):
            sending.postponed(outcome)

    # ------------------------------------------------------------------ a slow one

    def _slow(self) -> bool:
        return self._waiting.age > SLOW

    def _too_many(self, sending: Sending) -> None:
        self._cut_down = True
        sending.unreachable(Trouble(self.target, "too many messages wait for it already", "4.4.5"))

    def _too_many_behind(self, gate: Gate, sending: Sending) -> None:
        gate.cut_down = True
        reply = f"4.4.5 too many messages wait for {gate.name} already"
        sending.postponed(Postponed(reply, gate.name, WOKEN_AT_LATEST))

    def _look_later(self) -> None:
        if self._watch is None and len(self._waiting) > 1:
            self._watch = self._reactor.callLater(min(SLOW, STALLED), self._look)

    def _look(self) -> None:
        self._watch = None
        gate = self.gates.crowded()
        if gate is not None:
            for sending in self._waiting.cut(gate.share(len(self._waiting))):
                self._too_many_behind(gate, sending)
        if self._slow() and len(self._waiting) > KEPT_BY_SLOW:
            for sending in self._waiting.cut(KEPT_BY_SLOW):
                self._too_many(sending)
        self._look_later()
