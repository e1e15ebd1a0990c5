"""The process of the operator's own code: what the parent and the other children say to `handlers/handlers`."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.config.admin import Config
from dcrouter.control.incoming import Incoming, pem_files
from dcrouter.control.worker import Fields
from dcrouter.facts import ConnectionFacts
from dcrouter.handlers.handlers import Handlers, Succession
from dcrouter.net.channel import Channel
from dcrouter.net.living import Living
from dcrouter.net.slices import Steps
from dcrouter.service.taker import Taker
from dcrouter.tls.chooser import Chooser


class HandlersWorker(Taker):
    """The process of the operator's own code."""

    handlers: Handlers

    def __init__(self, reactor: Any, control: socket.socket) -> None:
        super().__init__(reactor, control)
        self.acts["leave"] = lambda fields, fds: self._check_needed()
        self._succession: Succession | None = None

    def configure(self, config: Config, chooser: Chooser, fields: Fields) -> None:
        self.handlers = Handlers(Path(fields["folder"]), chooser, self.reactor, self.ended)
        self.handlers.use(self.handlers.succession(config, pem_files(fields)), chooser)

    def believe(self, ca_files: Mapping[str, bytes]) -> None:
        self.handlers.believe(ca_files)

    def prepare(self, config: Config, incoming: Incoming) -> Steps[None]:
        yield from ()
        self._succession = self.handlers.succession(config, incoming.ca_files)

    def commit(self, incoming: Incoming, unused: Sequence[tuple[str, int]]) -> None:
        assert self._succession is not None and incoming.chooser is not None
        succession, self._succession = self._succession, None
        self.handlers.use(succession, incoming.chooser)
        for peer in self.peers.values():
            peer.send("at_work")

    def abandon(self) -> None:
        self._succession = None

    def go(self) -> None:
        self._check_needed()

    def living(self) -> Living[Any]:
        return self.handlers.sessions

    def met(self, role: str, peer: Channel | None) -> None:
        super().met(role, peer)
        if peer is not None:
            peer.send("at_work")

    def heard(self, role: str, kind: str, fields: Fields, fds: list[int]) -> None:
        if kind == "connection":
            self.handlers.take(fds[0], ConnectionFacts.from_plain(fields))
        elif kind == "select":
            self.handlers.select(fields, lambda answer: self._say(role, "selected", answer))
        elif kind == "egress":
            self.handlers.egress(fields, lambda answer: self._say(role, "egress", answer))

    def _say(self, role: str, kind: str, answer: Fields) -> None:
        """Code may answer when the one who has asked is gone."""
        if role in self.peers:
            self.peers[role].send(kind, answer)

    def drain(self, timeout: float) -> Deferred[None]:
        return self.handlers.drain()

    def stop(self) -> Deferred[None] | None:
        return self.handlers.close().addCallback(lambda _: self.tell_ended()) if hasattr(self, "handlers") else None

    def status(self) -> Fields:
        return self.handlers.status()

    def tell_ended(self) -> None:
        super().tell_ended()
        self._check_needed()

    def _check_needed(self) -> None:
        """The parent ends a process that nothing is left to do for."""
        if not self.handlers.needed:
            self.channel.send("unneeded")
