"""The mail process: what the parent and the other children say to `mail/mta`, and what it says to them."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dcrouter.config.admin import Config
from dcrouter.config.security import MinRate
from dcrouter.control.incoming import Incoming, pem_files
from dcrouter.control.worker import Fields
from dcrouter.facts import ConnectionFacts
from dcrouter.mail.mta import Mta, Succession
from dcrouter.net.channel import Channel
from dcrouter.net.living import Living
from dcrouter.net.slices import Steps
from dcrouter.service.taker import Taker
from dcrouter.tls.chooser import Chooser

COUNT_WITHIN = 1.0
"""Seconds that a status waits for the queue to be counted; the rest of it is told all the same."""


class MailWorker(Taker):
    """The mail process."""

    mta: Mta

    def __init__(self, reactor: Any, control: socket.socket) -> None:
        super().__init__(reactor, control)
        self.acts["queue"] = self._queue
        self.acts["bans"] = self._bans
        self.acts["key_sets"] = lambda fields, fds: self.mta.key_sets.update(fields["sets"])
        self.acts["suppression"] = self._suppression
        self._succession: Succession | None = None

    def configure(self, config: Config, chooser: Chooser, fields: Fields) -> None:
        self.mta = Mta(
            config,
            chooser,
            self.reactor,
            self.ended,
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

    def living(self) -> Living[Any] | None:
        return self.mta.sessions

    def met(self, role: str, peer: Channel | None) -> None:
        super().met(role, peer)
        if role == "handlers" and peer is None:
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
