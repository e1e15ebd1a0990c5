"""One budget for the content of messages on their way, whether it came with the client or was read from the store."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from twisted.internet.defer import Deferred, succeed

from dcrouter.mail.message import Message
from dcrouter.mail.queue.store import Key, Store

MEMORY = 64 * 1024 * 1024
"""Octets. Beyond it a new message is read again from the store, and what is read waits its turn."""


def key_of(message: Message) -> Key:
    """What names an attempt: nobody else tries its first recipient meanwhile."""
    return (message.id, message.envelope.recipients[0].number)


class Budget:
    """Octets that attempts hold. Who waits is served in order; a single one that is larger than all passes alone."""

    def __init__(self, limit: int = MEMORY) -> None:
        self._limit = limit
        self._used = 0
        self._held: dict[Key, int] = {}
        self._waiting: deque[tuple[Key, int, Deferred[None]]] = deque()

    @property
    def used(self) -> int:
        return self._used

    def take_now(self, key: Key, size: int) -> bool:
        """Whether there was room, which is held from now on."""
        if self._waiting or self._used + size > self._limit:
            return False
        self._hold(key, size)
        return True

    def take(self, key: Key, size: int) -> Deferred[None]:
        """Fires when there is room, which is held from then on. Never fires where `free` comes first."""
        if key in self._held or self.take_now(key, size):
            # An attempt that reads again, for the next target, has let go of what it read before.
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiting.append((key, size, waiter))
        self._serve()
        return waiter

    def free(self, key: Key) -> None:
        """The attempt is over."""
        self._used -= self._held.pop(key, 0)
        if self._waiting:
            if any(waiting[0] == key for waiting in self._waiting):
                self._waiting = deque(waiting for waiting in self._waiting if waiting[0] != key)
            self._serve()

    def _hold(self, key: Key, size: int) -> None:
        self._held[key] = self._held.get(key, 0) + size
        self._used += size

    def _serve(self) -> None:
        while self._waiting and (self._used + self._waiting[0][1] <= self._limit or not self._used):
            key, size, waiter = self._waiting.popleft()
            self._hold(key, size)
            waiter.callback(None)


class Bodies:
    """The content of queued messages for attempts, within the budget; the queue frees it when an attempt ends."""

    def __init__(self, store: Store, budget: Budget) -> None:
        self.budget = budget
        self._store = store

    @property
    def spool(self) -> Path:
        """Where the files of large messages are."""
        return self._store.spool

    def octets(self, message: Message) -> Deferred[bytes]:
        """The content of a message that is not spooled, once there is room for it. Fails with StoreError."""
        room = self.budget.take(key_of(message), message.size)
        return room.addCallback(lambda _: self._store.octets(message))
