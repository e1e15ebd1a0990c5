"""Two ends with a relay of ours between them, for tests of the data plane."""

from __future__ import annotations

import gc
import socket
from typing import Any

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import TimedOut, TlsError
from dcrouter.net.engine import IN, OUT, Task
from dcrouter.net.pipes import Pipes
from dcrouter.net.relay import Direction, direction, relay
from dcrouter.net.stream import Plain, Stream, Tls
from tests.support.ends import TLS13, End, client_context, descriptors, server_context
from tests.support.loop import Loop, tcp_pair

KINDS = ("", "client", "target", "client target")
"""Which ends speak TLS."""


class Joined:
    """client - (near) relay (far) - target. `outcome`: what relay returned or raised, None while it lives.

    `tls`: "client", "target", both with a space between, or neither: which of the two ends speaks TLS with the relay.
    """

    def __init__(
        self,
        loop: Loop,
        tls: str = "",
        *,
        version: int = TLS13,
        idle: float = 0,
        half: float = 0,
        first: bytes | None = None,
        pipes: Pipes | None = None,
        send_buffer: int = 0,
        pair: Any = tcp_pair,
    ) -> None:
        self.loop = loop
        self.pipes = pipes or Pipes()
        self.outcome: Any = None
        self.forth: Direction | None = None
        self.back: Direction | None = None
        client, self.near = pair()
        target, self.far = pair()
        for sock in (client, self.near, target, self.far) if pair is tcp_pair else ():
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # nothing waits for an acknowledgement
        for sock in (self.near, self.far) if send_buffer else ():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.client = End(client, SSL.Connection(client_context(version), client) if "client" in tls else None)
        self.target = End(target, SSL.Connection(server_context(version), target) if "target" in tls else None)
        if self.client.tls:
            self.client.tls.set_connect_state()
        if self.target.tls:
            self.target.tls.set_accept_state()
        self._version = version
        self._timeouts = (idle, half)
        self._first = first
        self.task = loop.engine.spawn(self._serve)

    async def _serve(self, task: Task) -> None:
        near, far = Plain(task, self.near, IN | OUT), Plain(task, self.far, IN | OUT)
        forth: Direction | None = None
        back: Direction | None = None
        client: Stream = near
        target: Stream = far
        try:
            near.watch()
            far.watch()
            if self.client.tls:
                client = Tls(near, server_context(self._version), serves=True)
                await client.handshake()
            if self.target.tls:
                target = Tls(far, client_context(self._version))
                await target.handshake()
            forth = self.forth = direction(client, target, self.pipes, self._first)
            back = self.back = direction(target, client, self.pipes)
            self.outcome = await relay(task, forth, back, client, target, *self._timeouts)
        except (OSError, TlsError, TimedOut) as error:
            self.outcome = error
            for stream in (near, far):
                stream.abort()
        finally:
            if forth is not None and back is not None:
                forth.release()
                back.release()
            near.close()
            far.close()

    def begin(self) -> Joined:
        """Until the handshakes are done and the relay runs."""
        self.until(lambda: self.forth is not None)
        return self

    def move(self) -> bool:
        """Let both ends do what they can."""
        moved = self.client.move()
        return self.target.move() or moved

    def until(self, fact: Any) -> None:
        """Turn everything until `fact()`."""

        def step() -> bool:
            while self.move():
                self.loop.turn()
            return bool(fact())

        try:
            self.loop.until(step)
        except AssertionError as error:
            raise AssertionError(f"{self.outcome!r}, {self.client}, {self.target}: {error}") from error

    def settle(self) -> None:
        """Turn everything until nothing moves any more: whatever is going to happen without time has happened."""
        quiet = 0
        while quiet < 10:
            self.loop.turn()
            quiet = 0 if self.move() else quiet + 1

    def run(self) -> None:
        """Until the relay is over and both ends have noticed."""
        self.until(lambda: self.outcome is not None and self.client.over and self.target.over)

    def close(self) -> None:
        """Close both ends and the pipes, and wait for the relay to end."""
        self.client.close()
        self.target.close()
        self.loop.until(lambda: self.outcome is not None)
        self.pipes.close()


class RelayCase(SynchronousTestCase):
    def setUp(self) -> None:
        gc.collect()
        self.loop = Loop()
        self.loop.start()
        self.addCleanup(self.loop.engine.stop)
        self.open = descriptors()

    def meet(self, tls: str = "", **options: object) -> Joined:
        """Two connections, of which no handshake is done yet."""
        joined = Joined(self.loop, tls, **options)  # type: ignore[arg-type]
        self.addCleanup(joined.close)
        return joined

    def join(self, tls: str = "", **options: object) -> Joined:
        """A relay that has begun."""
        return self.meet(tls, **options).begin()

    def assertNothingLeft(self) -> None:
        """Every socket and pipe is closed again."""
        self.loop.turn()
        self.loop.pass_time(0.1)
        self.assertEqual(descriptors() - self.open, set())
        self.assertEqual(self.loop.engine.tasks, set())
