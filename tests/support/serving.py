"""Servers in the test's own process: of any factory, and one whose sessions are protocols of the test's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port
from twisted.trial.unittest import TestCase


def listen(factory: IProtocolFactory, interface: str = "127.0.0.1", port: int = 0) -> Port:
    """Its owner closes it. `port` 0: one that is free."""
    listening = reactor.listenTCP(port, factory, interface=interface)  # type: ignore[arg-type]  # it takes any factory
    assert isinstance(listening, Port)
    return listening


class Serving:
    """Listens on `port` until the end of the test, or `close`. `sessions`: who is connected; protocols see to it that
    they are among them.
    """

    def __init__(self, case: TestCase, session: Callable[[], Any], interface: str = "127.0.0.1", port: int = 0) -> None:
        self.sessions: list[Any] = []
        factory = Factory.forProtocol(session)
        factory.noisy = False
        self._port = listen(factory, interface, port)
        self.port: int = self._port.getHost().port
        case.addCleanup(self.close)

    def close(self) -> Any:
        """Cuts all of them."""
        for session in list(self.sessions):
            session.transport.abortConnection()
        return self._port.stopListening()
