"""What the child processes do alike: the channel to the parent, the log, the parent's words, the end.

A child has one channel to the parent, as descriptor 3: it is told everything over it, and ends when it closes. SIGTERM
lets a child end what it has begun and exit; the parent starts a new one. Ctrl-C is the parent's business alone.
"""

from __future__ import annotations

import gc
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger, globalLogBeginner

from dcrouter.config.admin import Config
from dcrouter.config.load import from_plain
from dcrouter.control.credentials import Credentials
from dcrouter.control.incoming import Incoming, chooser_of, pem_files
from dcrouter.control.records import ChannelObserver
from dcrouter.errors import DcrouterError, StoreFull
from dcrouter.events import Logged
from dcrouter.net.channel import Channel
from dcrouter.net.slices import Steps, in_slices
from dcrouter.tls.chooser import Chooser

ACCESS_BATCH = 500
ACCESS_WAIT = 0.2
"""Access lines, or seconds, after which a batch goes to the parent."""
ACCESS_WAITING = 20
"""Batches that may wait while the parent is busy; lines beyond that are dropped and counted."""
LAST_WORDS = 2.0
"""Seconds in which a process that ends may still send its log."""
LEAVE_WITHIN = 30
"""Whole seconds from the beginning of the end to the kernel's: more than an orderly end takes (mail/mta.py)."""
LEAVE_AFTER = 2
"""Whole seconds for the interpreter to leave, when all is closed."""

Fields = dict[str, Any]
Act = Callable[[Fields, list[int]], None]
"""What is done with a message: its fields, and its descriptors, which are ours from then on."""


class AccessLines:
    """Finished connections and deliveries on their way to the parent, in batches."""

    def __init__(self, reactor: Any, channel: Channel) -> None:
        self._reactor = reactor
        self._channel = channel
        self._events: list[Logged] = []
        self._dropped = 0
        self._timer: Any = None

    def __call__(self, event: Logged) -> None:
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


class Worker(ABC):
    """One role. A role fills in the abstract methods, and adds to `acts` the messages that only it understands."""

    def __init__(self, reactor: Any, control: socket.socket) -> None:
        self.reactor = reactor
        self.log = Logger()
        self.channel = Channel(reactor, control, self._received, self._orphaned)
        self.observer = ChannelObserver(reactor, self.channel)
        self.access: AccessLines | None = None
        self.chooser: Chooser | None = None
        self.credentials = Credentials(reactor)
        self.peers: dict[str, Channel] = {}
        self.config: Config | None = None
        self.incoming: Incoming | None = None
        self._preparing: Deferred[Any] | None = None
        self.patience = 0.0
        self._ending = False
        self._alarm: Callable[[int], object] = lambda seconds: None  # `run` has a process of its own to end
        self.acts: dict[str, Act] = {
            "config": self._config,
            "credentials": lambda fields, fds: self.credentials.arrive(fields["credentials"]),
            "shelve": self._shelve,
            "ca_files": lambda fields, fds: self.believe(pem_files(fields)),
            "peer": self._peer,
            "go": self._go,
            "drain": lambda fields, fds: self._drain(fields["timeout"]),
            "status": self._status,
            "reopen": lambda fields, fds: None,
            "log_level": self._log_level,
            "incoming": lambda fields, fds: self._begin_incoming(fields),
            "incoming_routes": lambda fields, fds: self._incoming().add_routes(fields["routes"]),
            "incoming_listeners": lambda fields, fds: self._incoming().add_listeners(fds),
            "prepare": self._prepare,
            "commit": self._commit,
            "abandon": lambda fields, fds: self._abandon(),
        }

    # What a role fills in.

    @abstractmethod
    def configure(self, config: Config, chooser: Chooser, fields: Fields) -> Deferred[None] | None:
        """Make the half; `fields`: the whole message. A Deferred fires when it is ready."""

    @abstractmethod
    def prepare(self, config: Config, incoming: Incoming) -> Steps[None]:
        """Make the half anew beside the one at work; DcrouterError where that cannot be."""

    @abstractmethod
    def commit(self, incoming: Incoming, unused: Sequence[tuple[str, int]]) -> Deferred[None] | None:
        """Use what was prepared, at once. `unused`: (address, port) of listeners that nobody wants any more. Fires when
        what was before has been let go of.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Forget what was prepared, if anything was."""

    @abstractmethod
    def believe(self, ca_files: Mapping[str, bytes]) -> None:
        """Authorities and revocation lists have changed: path -> PEM of all of them."""

    @abstractmethod
    def go(self) -> None:
        """Begin to take connections."""

    @abstractmethod
    def drain(self, timeout: float) -> Deferred[None]:
        """Take no more; fires when what has begun has ended, or after `timeout` seconds (0: as long as it takes)."""

    @abstractmethod
    def stop(self) -> Deferred[None] | None:
        """End at once."""

    @abstractmethod
    def status(self) -> Fields | Deferred[Fields]:
        """Counters since the start, JSON-ready."""

    @abstractmethod
    def met(self, role: str, peer: Channel | None) -> None:
        """The child of that role is there, or (None) gone."""

    @abstractmethod
    def heard(self, role: str, kind: str, fields: Fields, fds: list[int]) -> None:
        """The child of that role said something."""

    # What is alike.

    def run(self) -> None:
        """Until the parent lets go."""
        globalLogBeginner.beginLoggingTo([self.observer], redirectStandardIO=False, discardBuffer=True)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):  # a terminal sends them to the whole group
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._terminated)
        # The last resort, which asks no thread and no lock of ours: see `_end`.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self._alarm = signal.alarm
        self.channel.start()
        self.reactor.run(installSignalHandlers=False)
        self._alarm(LEAVE_AFTER)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _received(self, kind: str, fields: Fields, fds: list[int]) -> None:
        act = self.acts.get(kind)
        if act is None:
            self.log.error("the parent said something that nobody knows: {kind}", kind=kind)
            return
        try:
            act(fields, fds)
        except Exception:
            # Said while the channel is there to say it: without this message's effect the process is of no use.
            self.log.failure("cannot do what the parent said: {kind}", kind=kind)
            self._end()

    def _config(self, fields: Fields, fds: list[int]) -> None:
        config = from_plain(fields["config"])
        self.chooser = chooser_of(config)
        credentials = self.credentials.ordered(fields["order"])
        self.chooser.update(credentials)
        self.credentials.settle(credentials)
        self._adopt(config)
        ready = maybeDeferred(self.configure, config, self.chooser, fields)
        ready.addCallback(lambda result: self.channel.send("ready"))
        ready.addErrback(self._failed)

    def _adopt(self, config: Config) -> None:
        """What holds for both halves."""
        self.config = config
        self.observer.level = config.log.level
        self.patience = config.defaults.timeouts.drain
        if config.access_log is None:
            if self.access is not None:
                self.access.flush()
            self.access = None
        elif self.access is None:
            self.access = AccessLines(self.reactor, self.channel)

    def _failed(self, failure: Any) -> None:
        if failure.check(StoreFull):
            self.channel.send("not_now")
        if failure.check(DcrouterError):
            self.log.error("cannot start: {reason}", reason=str(failure.value))
        else:
            self.log.failure("cannot start", failure)
        self._end()

    def _shelve(self, fields: Fields, fds: list[int]) -> None:
        assert self.chooser is not None
        self.credentials.shelve(fields["order"], self.chooser)

    def _log_level(self, fields: Fields, fds: list[int]) -> None:
        self.observer.level = fields["level"]

    # Another configuration, see control/incoming.py.

    def _begin_incoming(self, fields: Fields) -> None:
        self._abandon()
        self.incoming = Incoming(fields)

    def _incoming(self) -> Incoming:
        assert self.incoming is not None
        return self.incoming

    def _prepare(self, fields: Fields, fds: list[int]) -> None:
        incoming = self._incoming()

        def steps() -> Steps[None]:
            assert self.config is not None and self.chooser is not None
            config = yield from incoming.read(self.config, self.chooser, self.credentials.ordered(incoming.order))
            yield from self.prepare(config, incoming)

        def refused(failure: Any) -> str:
            if failure.check(DcrouterError, CancelledError) is None:
                self.log.failure("the new configuration cannot be used", failure)
            return str(failure.value)

        def answer(error: str | None) -> None:
            self.channel.send("answer", {"id": fields["id"], **({"error": error} if error is not None else {})})

        prepared: Deferred[Any] = in_slices(self.reactor, steps())
        self._preparing = prepared
        prepared.addErrback(refused).addCallback(answer)

    def _commit(self, fields: Fields, fds: list[int]) -> None:
        incoming, self.incoming = self._incoming(), None
        assert incoming.config is not None and incoming.chooser is not None and incoming.shelf is not None
        self._adopt(incoming.config)
        self.credentials.settle(self.credentials.ordered(incoming.order))
        self.chooser = incoming.chooser
        self.chooser.use(incoming.shelf)
        done = maybeDeferred(self.commit, incoming, [(address, port) for address, port in fields["unused"]])
        self.channel.send("answer", {"id": fields["id"]})
        done.addErrback(self._failed).addBoth(lambda _: incoming.settled())

    def _abandon(self) -> None:
        incoming, self.incoming = self.incoming, None
        if incoming is not None:
            if self._preparing is not None:
                self._preparing.cancel()
            self.abandon()
            self.credentials.forget_arrived()
            incoming.settled()

    def _peer(self, fields: Fields, fds: list[int]) -> None:
        role: str = fields["role"]
        before = self.peers.get(role)
        if before is not None:
            before.close()
        peer = self.peers[role] = Channel(
            self.reactor,
            socket.socket(fileno=fds[0]),
            partial(self.heard, role),
            lambda reason: self._peer_lost(role, peer, fields["join"]),
        )
        peer.start()
        self.met(role, peer)

    def _peer_lost(self, role: str, peer: Channel, join: int) -> None:
        if self.peers.get(role) is peer:
            del self.peers[role]
            self.met(role, None)
            self.channel.send("alone", {"join": join})

    def _go(self, fields: Fields, fds: list[int]) -> None:
        self.go()
        # Law 10: what lives for ever is not looked at by every collection.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20000, 20, 50)
        gc.enable()

    def _drain(self, timeout: float) -> None:
        self.drain(timeout).addBoth(lambda result: self._drained())

    def _drained(self) -> None:
        if self.access is not None:
            self.access.flush()
        self.observer.flush()
        self.channel.send("drained")

    def _status(self, fields: Fields, fds: list[int]) -> None:
        answer: Deferred[Any] = maybeDeferred(self.status)
        answer.addCallback(lambda status: self.channel.send("status", {"id": fields["id"], **status}))
        answer.addErrback(lambda failure: self.log.failure("cannot tell the status", failure))

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self.reactor.callFromThread(lambda: self._drain(self.patience))

    def _orphaned(self, reason: str) -> None:
        self._end()

    def _end(self) -> None:
        """Ends all that has begun and leaves, for good within LEAVE_WITHIN: a process that hung would keep the state
        directory from the next instance.
        """
        if self._ending:
            return
        self._ending = True
        self._alarm(LEAVE_WITHIN)
        self.observer.flush()
        self.channel.flush(LAST_WORDS)
        maybeDeferred(self.stop).addBoth(lambda result: self.reactor.stop())
