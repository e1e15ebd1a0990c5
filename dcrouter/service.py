"""The only place where objects meet: one function per process. `python -m dcrouter.service ROLE` runs a child.

parent   reads the configuration, binds ports, owns certificates, supervises   (control/parent.py)
edge     accepts, matches, relays                                              (proxy/edge.py)
mail     receives, keeps, sends                                                (mail/mta.py)
handlers runs the operator's own code                                          (handlers/handlers.py)
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dcrouter.config.admin import Config
from dcrouter.config.security import MinRate
from dcrouter.control.incoming import Incoming, pem_files
from dcrouter.control.worker import Fields, Worker
from dcrouter.events import SessionClosed
from dcrouter.facts import ConnectionFacts
from dcrouter.handlers.handlers import Handlers
from dcrouter.handlers.handlers import Succession as HandlersSuccession
from dcrouter.mail.mta import Mta, Succession
from dcrouter.net.channel import Channel
from dcrouter.net.reactor import install
from dcrouter.net.slices import Steps, in_slices
from dcrouter.proxy.edge import Edge
from dcrouter.proxy.plan import Plan
from dcrouter.proxy.question import asked
from dcrouter.tls.chooser import Chooser

CONTROL = 3
"""The descriptor of the channel to the parent."""

COUNT_WITHIN = 1.0
"""Seconds that a status waits for the queue to be counted; the rest of it is told all the same."""

LIVING_PER_MESSAGE = 500

TOLD_WITHIN = 0.002
"""Seconds until the edge hears of sessions that have ended, several at once: it counts them as open until then."""


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
        for fd in fds:
            self.edge.listen(socket.socket(fileno=fd))


class MailWorker(Worker):
    """The mail process."""

    mta: Mta

    def __init__(self, reactor: Any, control: socket.socket) -> None:
        super().__init__(reactor, control)
        self.acts["queue"] = self._queue
        self._ended: list[str] = []
        self.acts["connections"] = self._connections
        self.acts["kill"] = self._kill
        self.acts["bans"] = self._bans
        self.acts["key_sets"] = lambda fields, fds: self.mta.key_sets.update(fields["sets"])
        self.acts["suppression"] = self._suppression
        self._succession: Succession | None = None

    def configure(self, config: Config, chooser: Chooser, fields: Fields) -> None:
        self.mta = Mta(
            config,
            chooser,
            self.reactor,
            self._closed,
            self.access,
            ca_files=pem_files(fields),
            on_event=lambda event: self.access(event) if self.access is not None else None,
        )
        self.mta.key_sets.wanted = lambda url: self.channel.send("key_missed", {"url": url})
        self.mta.start()

    def believe(self, ca_files: Mapping[str, bytes]) -> None:
        self.mta.believe(ca_files)

    def prepare(self, config: Config, incoming: Incoming) -> Steps[None]:
        yield from ()
        self._succession = self.mta.succession(config, incoming.ca_files)

    def commit(self, incoming: Incoming, unused: Sequence[tuple[str, int]]) -> None:
        assert self._succession is not None and incoming.chooser is not None
        succession, self._succession = self._succession, None
        self.mta.reload(succession, incoming.chooser, self.access)

    def abandon(self) -> None:
        self._succession = None

    def go(self) -> None:
        """Connections come from the edge, as soon as it has met us."""

    def met(self, role: str, peer: Channel | None) -> None:
        if role == "edge":
            tell_living(peer, self.mta.living())
        elif peer is None:
            self.mta.meet_handlers(None)

    def drain(self, timeout: float) -> Deferred[None]:
        return self.mta.drain(timeout)

    def stop(self) -> Deferred[None] | None:
        return self.mta.close() if hasattr(self, "mta") else None

    def status(self) -> Deferred[Fields]:
        def counted(counts: Fields | None) -> Fields:
            return {**self.mta.status(), "queue": counts}

        counts: Deferred[Any] = self.mta.queue_counts()
        return counts.addTimeout(COUNT_WITHIN, self.reactor).addErrback(lambda _: None).addCallback(counted)

    def heard(self, role: str, kind: str, fields: Fields, fds: list[int]) -> None:
        if kind == "connection":
            least = fields.get("min_rate")
            self.mta.take(fds[0], ConnectionFacts.from_plain(fields), MinRate(**least) if least is not None else None)
        elif kind == "at_work":
            self.mta.meet_handlers(self.peers[role])
        elif kind == "egress":
            self.mta.handlers_said(fields)

    def _closed(self, event: SessionClosed) -> None:
        if not self._ended:
            self.reactor.callLater(TOLD_WITHIN, self._tell_ended)
        self._ended.append(event.session)
        if self.access is not None:
            self.access(event)

    def _tell_ended(self) -> None:
        ended, self._ended = self._ended, []
        if "edge" in self.peers:
            self.peers["edge"].send("closed", {"sessions": ended})

    def _connections(self, fields: Fields, fds: list[int]) -> None:
        self.channel.send("answer", {"id": fields["id"], **self.mta.connections(fields["after"], fields["most"])})

    def _kill(self, fields: Fields, fds: list[int]) -> None:
        self.channel.send("answer", {"id": fields["id"], "killed": self.mta.kill(fields["session"])})

    def _bans(self, fields: Fields, fds: list[int]) -> None:
        self.channel.send("answer", {"id": fields["id"], **self.mta.bans(fields)})

    def _suppression(self, fields: Fields, fds: list[int]) -> None:
        self.channel.send("answer", {"id": fields["id"], **self.mta.suppression(fields)})

    def _queue(self, fields: Fields, fds: list[int]) -> None:
        def broken(failure: Failure) -> Fields:
            self.log.failure("the queue cannot be asked", failure)
            return {"error": f"the queue cannot be asked: {failure.getErrorMessage()}"}

        answer = self.mta.queue_ask(fields).addErrback(broken)
        answer.addCallback(lambda result: self.channel.send("queue", {"id": fields["id"], **result}))


class HandlersWorker(Worker):
    """The process of the operator's own code."""

    handlers: Handlers

    def __init__(self, reactor: Any, control: socket.socket) -> None:
        super().__init__(reactor, control)
        self.acts["connections"] = self._connections
        self.acts["kill"] = self._kill
        self.acts["leave"] = lambda fields, fds: self._check_needed()
        self._ended: list[str] = []
        self._succession: HandlersSuccession | None = None

    def configure(self, config: Config, chooser: Chooser, fields: Fields) -> None:
        self.handlers = Handlers(Path(fields["folder"]), chooser, self.reactor, self._closed)
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
        """Connections come from the edge, as soon as it has met us."""
        self._check_needed()

    def met(self, role: str, peer: Channel | None) -> None:
        if role == "edge":
            tell_living(peer, self.handlers.sessions.living())
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
        return self.handlers.close().addCallback(lambda _: self._tell_ended()) if hasattr(self, "handlers") else None

    def status(self) -> Fields:
        return self.handlers.status()

    def _closed(self, event: SessionClosed) -> None:
        if not self._ended:
            self.reactor.callLater(TOLD_WITHIN, self._tell_ended)
        self._ended.append(event.session)
        if self.access is not None:
            self.access(event)

    def _tell_ended(self) -> None:
        ended, self._ended = self._ended, []
        if "edge" in self.peers and ended:
            self.peers["edge"].send("closed", {"sessions": ended})
        self._check_needed()

    def _check_needed(self) -> None:
        """The parent ends a process that nothing is left to do for."""
        if not self.handlers.needed:
            self.channel.send("unneeded")

    def _connections(self, fields: Fields, fds: list[int]) -> None:
        page = self.handlers.sessions.page(fields["after"], fields["most"])
        self.channel.send("answer", {"id": fields["id"], **page})

    def _kill(self, fields: Fields, fds: list[int]) -> None:
        killed = self.handlers.sessions.kill(fields["session"])
        self.channel.send("answer", {"id": fields["id"], "killed": killed})


def tell_living(peer: Channel | None, living: Sequence[tuple[str, str, str | None]]) -> None:
    """The edge holds back by itself while we are gone; a new one hears of the sessions that outlived the last."""
    for start in range(0, len(living), LIVING_PER_MESSAGE) if peer is not None else ():
        assert peer is not None
        peer.send("living", {"sessions": living[start : start + LIVING_PER_MESSAGE]})


WORKERS: dict[str, type[Worker]] = {"edge": EdgeWorker, "mail": MailWorker, "handlers": HandlersWorker}


def main(role: str) -> None:
    """Run the child `role`, with the channel to its parent as descriptor 3."""
    install()
    from twisted.internet import reactor

    control = socket.socket(fileno=CONTROL)
    control.set_inheritable(False)
    WORKERS[role](reactor, control).run()


if __name__ == "__main__":
    main(sys.argv[1])
