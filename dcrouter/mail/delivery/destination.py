"""One next hop, by host and port: its connections, what waits for one, and whether it answers at all.

A message takes an idle connection, or opens one (bounded), or waits. When the last connection that could have served
them fails, all that wait are told `unreachable` and may go elsewhere; for a while afterwards new ones hear so at once.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from attrs import frozen
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from dcrouter.config.routes import Target
from dcrouter.mail.delivery.client import TIMEOUTS, NextHop, Sending
from dcrouter.wire.smtp.client import Phase

MAX_CONNECTIONS = 20
"""To one next hop at once."""

MAX_CARRIED = 100
"""Messages on one connection; then it is opened anew, so that a next hop behind a balancer gets its share."""

DOWN = 10.0
"""Seconds for which a next hop that could not be reached is not tried again."""

SMTP_PORT = 25


@frozen(kw_only=True)
class Patience:
    """Seconds: `connect` for a connection to open, `replies` for each phase after that."""

    connect: float = 30.0
    replies: dict[Phase, float] = TIMEOUTS


class Destination:
    """`target`: host:port, for logs. Reached through `endpoint`."""

    def __init__(
        self, target: str, endpoint: IStreamClientEndpoint, name: str, reactor: Any, replies: dict[Phase, float]
    ) -> None:
        self.target = target
        self._endpoint = endpoint
        self._name = name
        self._reactor = reactor
        self._replies = replies
        self._waiting: deque[Sending] = deque()
        self._idle: list[NextHop] = []
        self._hops: set[NextHop] = set()
        self._opening: set[Deferred[Any]] = set()
        self._down_until = 0.0
        self._down_reason = ""
        self._closed = False

    def send(self, sending: Sending) -> None:
        """Its `finished` or `unreachable` is called, once, perhaps before this returns."""
        if self._idle:
            self._idle.pop().send(sending)
        elif self._closed or self._reactor.seconds() < self._down_until:
            sending.unreachable(f"{self.target}: {self._down_reason or 'closing'}")
        else:
            self._waiting.append(sending)
            self._open()

    @property
    def down(self) -> bool:
        """Whether it was found unreachable just now."""
        return bool(self._reactor.seconds() < self._down_until)

    def close(self) -> None:
        """Ends every connection; whatever is under way is unreachable."""
        self._closed = True
        for opening in list(self._opening):
            opening.cancel()
        for hop in list(self._hops):
            if hop in self._idle:
                hop.leave()
            else:
                hop.abort("closing")
        self._idle.clear()
        self._refuse_waiting("closing")

    # ------------------------------------------------------------------ what connections tell

    def ready(self, hop: NextHop) -> None:
        self._down_until = 0.0
        if hop.carried >= MAX_CARRIED or self._closed:
            hop.leave()
            self._hops.discard(hop)
            self._open()
        elif self._waiting:
            hop.send(self._waiting.popleft())
        else:
            self._idle.append(hop)

    def tired(self, hop: NextHop) -> None:
        if hop in self._idle:
            self._idle.remove(hop)
        hop.leave()

    def broken(self, hop: NextHop, sending: Sending | None, reason: str) -> None:
        self._hops.discard(hop)
        if hop in self._idle:
            self._idle.remove(hop)
        if sending is not None:
            if hop.untouched and not self._closed:
                self._waiting.appendleft(sending)  # a kept connection that the server had closed: not its failure
            else:
                sending.unreachable(f"{self.target}: {reason}")
        if hop.established:
            self._open()
        else:
            self._failed(reason)

    # ------------------------------------------------------------------ opening

    def _open(self) -> None:
        """One more connection, if more messages wait than connections are on their way."""
        if self._closed or len(self._hops) + len(self._opening) >= MAX_CONNECTIONS:
            return
        if len(self._waiting) <= len(self._opening) + sum(1 for hop in self._hops if not hop.established):
            return
        factory = Factory.forProtocol(self._build)
        factory.noisy = False
        opening: Deferred[Any] = self._endpoint.connect(factory)
        self._opening.add(opening)
        opening.addBoth(self._opened, opening)

    def _build(self) -> NextHop:
        return NextHop(self, self._name, self._reactor, self._replies)

    def _opened(self, result: NextHop | Failure, opening: Deferred[Any]) -> None:
        self._opening.discard(opening)
        if isinstance(result, Failure):
            self._failed(result.getErrorMessage())
        elif self._closed:
            result.abort("closing")
        else:
            self._hops.add(result)

    def _failed(self, reason: str) -> None:
        """A connection that never served. While others do, those that wait are theirs."""
        if self._hops or self._opening:
            return
        self._down_until = self._reactor.seconds() + DOWN
        self._down_reason = reason
        self._refuse_waiting(reason)

    def _refuse_waiting(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for sending in waiting:
            sending.unreachable(f"{self.target}: {reason}")


class Destinations:
    """All next hops of one mail process, made when first needed."""

    def __init__(self, name: str, reactor: Any, patience: Patience) -> None:
        self._name = name
        self._reactor = reactor
        self._patience = patience
        self._known: dict[Target, Destination] = {}

    def of(self, target: Target) -> Destination:
        destination = self._known.get(target)
        if destination is None:
            label, endpoint = self._endpoint(target)
            destination = Destination(label, endpoint, self._name, self._reactor, self._patience.replies)
            self._known[target] = destination
        return destination

    def close(self) -> None:
        for destination in self._known.values():
            destination.close()

    def _endpoint(self, target: Target) -> tuple[str, IStreamClientEndpoint]:
        reactor, timeout = self._reactor, self._patience.connect
        if target.unix is not None:
            return str(target.unix), UNIXClientEndpoint(reactor, str(target.unix), timeout=int(timeout) or 1)
        assert target.host is not None
        host, port = target.host, target.port or SMTP_PORT
        if isIPAddress(host):
            return f"{host}:{port}", TCP4ClientEndpoint(reactor, host, port, timeout=timeout)
        if isIPv6Address(host):
            return f"[{host}]:{port}", TCP6ClientEndpoint(reactor, host, port, timeout=timeout)
        return f"{host}:{port}", HostnameEndpoint(reactor, host, port, timeout=timeout)
