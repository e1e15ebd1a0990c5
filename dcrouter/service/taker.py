"""What the processes do alike that take connections from the edge: it counts them, and hears when they have ended."""

from __future__ import annotations

import socket
from abc import abstractmethod
from typing import Any

from dcrouter.control.worker import Fields, Worker
from dcrouter.events import SessionClosed
from dcrouter.net.channel import Channel
from dcrouter.net.living import Living
from dcrouter.net.reactor import when_idle

LIVING_PER_MESSAGE = 500

TOLD_WITHIN = 0.002
"""Seconds until the edge hears of connections that have ended, at the latest: of several at once, where there is much
else to do. It counts them as open until then.
"""


class Taker(Worker):
    """Connections come as soon as the edge has met us."""

    def __init__(self, reactor: Any, control: socket.socket) -> None:
        super().__init__(reactor, control)
        self.acts["connections"] = self._connections
        self.acts["kill"] = self._kill
        self._ended: list[str] = []
        self._when_idle = when_idle(reactor)

    @abstractmethod
    def living(self) -> Living[Any] | None:
        """Those that there are; None before the half has begun."""

    def go(self) -> None:
        """See the class."""

    def met(self, role: str, peer: Channel | None) -> None:
        """An edge holds back by itself while we are gone; a new one hears of the connections that outlived the last."""
        held = self.living()
        if role != "edge" or peer is None or held is None:
            return
        living = held.living()
        for start in range(0, len(living), LIVING_PER_MESSAGE):
            peer.send("living", {"sessions": living[start : start + LIVING_PER_MESSAGE]})

    def ended(self, event: SessionClosed) -> None:
        """A connection has ended."""
        self._ended.append(event.session)
        if len(self._ended) == 1:
            self._when_idle(self.tell_ended, TOLD_WITHIN)
        if self.access is not None:
            self.access(event)

    def tell_ended(self) -> None:
        """The edge hears of all that have ended by now."""
        ended, self._ended = self._ended, []
        if ended and "edge" in self.peers:
            self.peers["edge"].send("closed", {"sessions": ended})

    def _connections(self, fields: Fields, fds: list[int]) -> None:
        held = self.living()
        page = held.page(fields["after"], fields["most"]) if held is not None else {"connections": [], "next": None}
        self.channel.send("answer", {"id": fields["id"], **page})

    def _kill(self, fields: Fields, fds: list[int]) -> None:
        held = self.living()
        killed = held.kill(fields["session"]) if held is not None else 0
        self.channel.send("answer", {"id": fields["id"], "killed": killed})
