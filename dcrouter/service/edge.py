"""The edge process: what the parent and the other children say to `proxy/edge`, and what it says to them."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.config.admin import Config
from dcrouter.control.incoming import Incoming, pem_files
from dcrouter.control.worker import Fields, Worker
from dcrouter.net.channel import Channel
from dcrouter.net.slices import Steps, in_slices
from dcrouter.proxy.edge import Edge
from dcrouter.proxy.plan import Plan
from dcrouter.proxy.question import asked
from dcrouter.tls.chooser import Chooser


class EdgeWorker(Worker):
    """The edge process."""

    edge: Edge

    def __init__(self, reactor: Any, control: socket.socket) -> None:
        super().__init__(reactor, control)
        self.acts["listener"] = self._listener
        self.acts["addresses"] = lambda fields, fds: self.edge.addresses.update(fields["names"])
        self.acts["key_sets"] = lambda fields, fds: self.edge.key_sets.update(fields["sets"])
        self.acts["challenges"] = self._challenges
        self.acts["responder"] = lambda fields, fds: self.edge.respond([socket.socket(fileno=fd) for fd in fds])
        self.acts["status"] = self._status_in_pieces
        self.acts["connections"] = self._connections
        self.acts["kill"] = self._kill
        self.acts["decide"] = self._decide
        self._plan: Plan | None = None

    def configure(self, config: Config, chooser: Chooser, fields: Fields) -> None:
        self.edge = Edge(config, chooser, pem_files(fields), self.reactor, self.access)
        self.edge.wishes.tell = lambda name: self.channel.send("wish", {"name": name})
        self.edge.key_sets.wanted = lambda url: self.channel.send("key_missed", {"url": url})

    def believe(self, ca_files: Mapping[str, bytes]) -> None:
        self.edge.believe(ca_files)

    def prepare(self, config: Config, incoming: Incoming) -> Steps[None]:
        self._plan = yield from self.edge.prepare(config, incoming.ca_files)

    def commit(self, incoming: Incoming, unused: Sequence[tuple[str, int]]) -> Deferred[None]:
        assert self._plan is not None and incoming.chooser is not None
        plan, self._plan = self._plan, None
        return self.edge.reload(plan, incoming.chooser, self.access, incoming.take_opened(), frozenset(unused))

    def abandon(self) -> None:
        self._plan = None

    def go(self) -> None:
        self.edge.start()

    def drain(self, timeout: float) -> Deferred[None]:
        return self.edge.drain()

    def stop(self) -> None:
        if hasattr(self, "edge"):
            self.edge.stop()

    def status(self) -> Fields:
        return self.edge.status()

    def met(self, role: str, peer: Channel | None) -> None:
        self.edge.met(role, peer)

    def heard(self, role: str, kind: str, fields: Fields, fds: list[int]) -> None:
        if kind == "selected":
            self.edge.asking.answered(fields)
        elif kind == "at_work":
            self.edge.asking.meet(self.peers[role])
        elif kind == "closed":
            for session in fields["sessions"]:
                self.edge.takers[role].closed(session)
        elif kind == "living":
            for session, address, route in fields["sessions"]:
                self.edge.living(role, session, address, route)

    def _connections(self, fields: Fields, fds: list[int]) -> None:
        self.channel.send("answer", {"id": fields["id"], **self.edge.connections(fields["after"], fields["most"])})

    def _status_in_pieces(self, fields: Fields, fds: list[int]) -> None:
        """Ten thousand routes are not told of in one breath: requests would wait."""

        def steps() -> Steps[None]:
            for name, piece in self.edge.counted():
                self.channel.send("part", {"id": fields["id"], "of": name, "part": piece})
                yield
            self.channel.send("status", {"id": fields["id"], **self.edge.totals(), "routes": {}, "targets": {}})

        told = in_slices(self.reactor, steps())
        told.addErrback(lambda failure: self.log.failure("cannot tell the status", failure))

    def _decide(self, fields: Fields, fds: list[int]) -> None:
        try:
            answer = self.edge.decide(asked(fields["question"]))
        except Exception:
            # Only asked: what goes wrong here must not end the process, as a failure to obey does.
            self.log.failure("cannot say where a connection would go")
            answer = {"error": "the edge cannot say", "status": 503}
        self.channel.send("answer", {"id": fields["id"], **answer})

    def _kill(self, fields: Fields, fds: list[int]) -> None:
        self.channel.send("answer", {"id": fields["id"], "killed": self.edge.kill(fields["session"])})

    def _challenges(self, fields: Fields, fds: list[int]) -> None:
        self.edge.challenges.update(fields)
        if "id" in fields:
            self.channel.send("answer", {"id": fields["id"]})

    def _listener(self, fields: Fields, fds: list[int]) -> None:
        self.edge.listen(*(socket.socket(fileno=fd) for fd in fds))
