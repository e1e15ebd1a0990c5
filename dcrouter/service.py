"""The only place where objects meet: one function per process. `python -m dcrouter.service edge|mail` runs a child.

    parent   reads the configuration, binds ports, owns certificates, supervises   (control/parent.py, made by tap.py)
    edge     accepts, matches, relays                                              (proxy/edge.py)
    mail     receives, keeps, sends                                                (mail/mta.py)

A child has one channel to the parent, as descriptor 3: it is told everything over it, and ends when it closes. SIGTERM
lets a child end what it has begun and exit; the parent starts a new one. Ctrl-C is the parent's business alone.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet import epollreactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger, globalLogBeginner

from dcrouter.config.admin import Config
from dcrouter.config.load import from_plain
from dcrouter.control.records import ChannelObserver
from dcrouter.events import SessionClosed
from dcrouter.facts import ConnectionFacts
from dcrouter.mail.mta import Mta
from dcrouter.net.channel import Channel
from dcrouter.proxy.edge import Edge
from dcrouter.tls.chooser import Chooser
from dcrouter.tls.credential import Credential

CONTROL = 3
"""The descriptor of the channel to the parent."""
ACCESS_BATCH = 500
ACCESS_WAIT = 0.2
"""Access lines, or seconds, after which a batch goes to the parent."""
ACCESS_WAITING = 20
"""Batches that may wait while the parent is busy; lines beyond that are dropped and counted."""
LAST_WORDS = 2.0

Fields = dict[str, Any]


class AccessLines:
    """Finished connections on their way to the parent, in batches."""

    def __init__(self, reactor: Any, channel: Channel) -> None:
        self._reactor = reactor
        self._channel = channel
        self._events: list[SessionClosed] = []
        self._dropped = 0
        self._timer: Any = None

    def __call__(self, event: SessionClosed) -> None:
        if len(self._events) >= ACCESS_BATCH and self._channel.waiting > ACCESS_WAITING:
            self._dropped += 1
            return
        self._events.append(event)
        if len(self._events) >= ACCESS_BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = self._reactor.callLater(ACCESS_WAIT, self._due)

    def flush(self) -> None:
        if self._channel.waiting > ACCESS_WAITING or not (self._events or self._dropped):
            return
        events, self._events = self._events, []
        dropped, self._dropped = self._dropped, 0
        self._channel.send("access", {"lines": [event.to_plain() for event in events], "dropped": dropped})

    def _due(self) -> None:
        self._timer = None
        self.flush()
        if self._events:
            self._timer = self._reactor.callLater(ACCESS_WAIT, self._due)


class Worker:
    """What both children do alike: the channel, the log, the words of the parent, the end.

    A role says in `tell` what it does with each message: kind -> function of its fields and descriptors.
    """

    def __init__(self, reactor: Any, control: socket.socket) -> None:
        self.reactor = reactor
        self.log = Logger()
        self.channel = Channel(reactor, control, self._received, self._orphaned)
        self.observer = ChannelObserver(reactor, self.channel)
        self.access: AccessLines | None = None
        self.chooser: Chooser | None = None
        self.peer: Channel | None = None
        self.tell: dict[str, Callable[[Fields, list[int]], None]] = {
            "config": self._config,
            "credentials": self._credentials,
            "peer": self._peer,
            "go": self._go,
            "drain": lambda fields, fds: self._drain(),
            "status": self._status,
            "reopen": lambda fields, fds: None,
        }

    # What a role fills in.

    def configure(self, config: Config, chooser: Chooser, fields: Fields) -> Any:
        """Make the half; may give a Deferred that fires when it is ready."""
        raise NotImplementedError

    def go(self) -> None:
        """Begin."""

    def drain(self) -> Deferred[None]:
        """End what has begun."""
        raise NotImplementedError

    def stop(self) -> Any:
        """End at once."""

    def status(self) -> Fields:
        """Counters."""
        raise NotImplementedError

    def met(self, peer: Channel | None) -> None:
        """The other child is there, or (None) gone."""

    def heard(self, kind: str, fields: Fields, fds: list[int]) -> None:
        """The other child said something."""

    # What is alike.

    def run(self) -> None:
        """Until the parent lets go."""
        globalLogBeginner.beginLoggingTo([self.observer], redirectStandardIO=False, discardBuffer=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._terminated)
        self.channel.start()
        self.reactor.run(installSignalHandlers=False)

    def _received(self, kind: str, fields: Fields, fds: list[int]) -> None:
        act = self.tell.get(kind)
        if act is None:
            self.log.error("the parent said something that nobody knows: {kind}", kind=kind)
            return
        act(fields, fds)

    def _config(self, fields: Fields, fds: list[int]) -> None:
        config = from_plain(fields["config"])
        self.observer.level = config.log.level
        email = config.email
        self.chooser = Chooser(
            config.tls,
            mail_name=email.hostname if email is not None else None,
            mail_choice=email.certificate if email is not None else "auto",
        )
        self._credentials(fields, [])
        if config.access_log is not None:
            self.access = AccessLines(self.reactor, self.channel)
        ready = maybeDeferred(self.configure, config, self.chooser, fields)
        ready.addCallback(lambda result: self.channel.send("ready"))
        ready.addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        self.log.failure("cannot start", failure)
        self._end()

    def _credentials(self, fields: Fields, fds: list[int]) -> None:
        assert self.chooser is not None
        self.chooser.update([Credential.from_plain(plain) for plain in fields["credentials"]])

    def _peer(self, fields: Fields, fds: list[int]) -> None:
        if self.peer is not None:
            self.peer.close()
        peer = self.peer = Channel(
            self.reactor, socket.socket(fileno=fds[0]), self.heard, lambda reason: self._peer_lost(peer)
        )
        peer.start()
        self.met(peer)

    def _peer_lost(self, peer: Channel) -> None:
        if self.peer is peer:
            self.peer = None
            self.met(None)

    def _go(self, fields: Fields, fds: list[int]) -> None:
        self.go()
        # Law 10: what lives for ever is not looked at by every collection.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20000, 20, 50)

    def _drain(self) -> None:
        self.drain().addBoth(lambda result: self._drained())

    def _drained(self) -> None:
        if self.access is not None:
            self.access.flush()
        self.observer.flush()
        self.channel.send("drained")

    def _status(self, fields: Fields, fds: list[int]) -> None:
        self.channel.send("status", {"id": fields["id"], **self.status()})

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self.reactor.callFromThread(self._drain)

    def _orphaned(self, reason: str) -> None:
        self._end()

    def _end(self) -> None:
        self.observer.flush()
        self.channel.flush(LAST_WORDS)
        maybeDeferred(self.stop).addBoth(lambda result: self.reactor.stop())


class EdgeWorker(Worker):
    """The edge process."""

    edge: Edge

    def __init__(self, reactor: Any, control: socket.socket) -> None:
        super().__init__(reactor, control)
        self.tell["listener"] = self._listener
        self.tell["addresses"] = lambda fields, fds: self.edge.addresses.update(fields["names"])

    def configure(self, config: Config, chooser: Chooser, fields: Fields) -> None:
        ca_files = {path: text.encode() for path, text in fields["ca_files"].items()}
        self.edge = Edge(config, chooser, ca_files, self.reactor, self.access)

    def go(self) -> None:
        self.edge.start()

    def drain(self) -> Deferred[None]:
        return self.edge.drain()

    def stop(self) -> None:
        if hasattr(self, "edge"):
            self.edge.stop()

    def status(self) -> Fields:
        return self.edge.status()

    def met(self, peer: Channel | None) -> None:
        self.edge.mail_process(peer)

    def heard(self, kind: str, fields: Fields, fds: list[int]) -> None:
        if kind == "closed":
            self.edge.mail_closed(fields["session"])

    def _listener(self, fields: Fields, fds: list[int]) -> None:
        for fd in fds:
            self.edge.listen(socket.socket(fileno=fd))


class MailWorker(Worker):
    """The mail process."""

    mta: Mta

    def __init__(self, reactor: Any, control: socket.socket) -> None:
        super().__init__(reactor, control)
        self.tell["queue"] = self._queue

    def configure(self, config: Config, chooser: Chooser, fields: Fields) -> Any:
        self.mta = Mta(config, chooser, self.reactor, self._closed)
        return self.mta.start()

    def drain(self) -> Deferred[None]:
        return self.mta.drain()

    def stop(self) -> Any:
        return self.mta.close() if hasattr(self, "mta") else None

    def status(self) -> Fields:
        return self.mta.status()

    def heard(self, kind: str, fields: Fields, fds: list[int]) -> None:
        if kind == "connection":
            self.mta.take(fds[0], ConnectionFacts.from_plain(fields))

    def _closed(self, event: SessionClosed) -> None:
        if self.peer is not None:
            self.peer.send("closed", {"session": event.session})
        if self.access is not None:
            self.access(event)

    def _queue(self, fields: Fields, fds: list[int]) -> None:
        def answer(result: Any) -> None:
            self.channel.send("queue", {"id": fields["id"], "result": result})

        if fields["do"] == "list":
            done = maybeDeferred(self.mta.queue_list, fields["limit"])
        else:
            done = maybeDeferred(self.mta.queue_drop, fields["message"])
        done.addCallback(answer)
        done.addErrback(lambda failure: self.log.failure("the queue cannot be asked", failure))


WORKERS: dict[str, type[Worker]] = {"edge": EdgeWorker, "mail": MailWorker}


def main(role: str) -> None:
    """Run the child `role`, with the channel to its parent as descriptor 3."""
    epollreactor.install()
    from twisted.internet import reactor

    control = socket.socket(fileno=CONTROL)
    control.set_inheritable(False)
    WORKERS[role](reactor, control).run()


if __name__ == "__main__":
    main(sys.argv[1])
