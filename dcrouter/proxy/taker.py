"""Another process that takes connections over, mail or handlers: what it has, and who counts it meanwhile.

1. `take` sends it the socket with the facts. Whoever has let the connection in goes on counting it.
2. The process says when it has ended (`closed`), or that it dies by closing the channel: then all that it had is over.
3. A new edge hears of what is alive there (`living`) and counts on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen

from dcrouter.facts import ConnectionFacts
from dcrouter.net.channel import Channel
from dcrouter.net.engine import FAILED, WAIT, Task
from dcrouter.proxy.admission import Admission

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session

HANDOVERS = 512
"""Connections on their way to the process; beyond that nobody is sent there."""
PAUSE = 0.1
"""Seconds until it is looked at again, when so many were on their way."""


@frozen
class _Handed:
    address: str
    entered: Iterable[Admission]
    facts: ConnectionFacts | None


class Taker:
    """`capacity`: connections that it may have. `changed` is called when `ready` may be another.

    `lost` hears of each connection that was there when the process died, as far as this edge knows it.
    """

    def __init__(
        self,
        reactor: Any,
        capacity: int,
        changed: Callable[[], None],
        lost: Callable[[ConnectionFacts], None] = lambda facts: None,
    ) -> None:
        self.channel: Channel | None = None
        self._reactor = reactor
        self._capacity = capacity
        self._changed = changed
        self._lost = lost
        self._handed: dict[str, _Handed] = {}
        self._waiting: dict[Task, None] = {}
        self._rests = False

    def __len__(self) -> int:
        return len(self._handed)

    @property
    def ready(self) -> bool:
        """Whether it is there and can have one more."""
        channel = self.channel
        return channel is not None and channel.waiting <= HANDOVERS and len(self._handed) < self._capacity

    def meet(self, channel: Channel | None) -> None:
        """It is there, or (None) gone, and its sessions are over."""
        self.channel = channel
        if channel is None:
            handed, self._handed = self._handed, {}
            for one in handed.values():
                for admission in one.entered:
                    admission.leave(one.address)
                if one.facts is not None:
                    self._lost(one.facts)
        self._tell()

    async def free(self, session: Session) -> bool:
        """Waits until it is `ready`, as long as the session's phase may last; False where the client has gone before.
        Those who wait go in the order in which they came.
        """
        task = session.task
        self._waiting[task] = None
        try:
            while not self.ready:
                await WAIT
                if session.plain.ready & FAILED:
                    return False
        finally:
            self._waiting.pop(task, None)
        return True

    def take(self, session: Session) -> None:
        """The connection is its own from now on; the session ends without a word. `channel` must be there."""
        channel, plain, facts = self.channel, session.plain, session.facts
        assert channel is not None
        plain.release()
        fields = facts.to_plain()
        least = session.route.min_rate if session.route is not None else None
        if least is not None:
            fields["min_rate"] = asdict(least)
        channel.send("connection", fields, [plain.fd])
        self._handed[facts.session] = _Handed(facts.peer[0], session.entered, facts)
        session.hand_over()
        if len(self._handed) >= self._capacity:
            self._changed()
        if channel.waiting > HANDOVERS and not self._rests:
            self._rests = True
            self._changed()
            self._reactor.callLater(PAUSE, self._rested)

    def living(self, session: str, address: str, entered: Iterable[Admission]) -> None:
        """One that an edge before this one has handed over is counted on, whatever the limits say."""
        if session in self._handed:
            return
        for admission in entered:
            admission.count(address)
        self._handed[session] = _Handed(address, entered, None)

    def closed(self, session: str) -> None:
        """The process has finished with it."""
        handed = self._handed.pop(session, None)
        if handed is None:
            return
        for admission in handed.entered:
            admission.leave(handed.address)
        if len(self._handed) == self._capacity - 1:
            self._tell()

    def _rested(self) -> None:
        if self.channel is not None and self.channel.waiting > HANDOVERS:
            self._reactor.callLater(PAUSE, self._rested)
            return
        self._rests = False
        self._tell()

    def _tell(self) -> None:
        self._changed()
        for task in list(self._waiting):
            if not self.ready:
                return
            task.engine.drive(task, None)
            task.engine.settle()
