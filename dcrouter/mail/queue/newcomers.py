"""Messages that have just become durable: their first attempts begin when the replies to who brought them have left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from dcrouter.mail.message import Message
from dcrouter.mail.queue.store import Key
from dcrouter.net.reactor import when_idle

REPLIES_FIRST = 0.005
"""Seconds, at most, for which they let the reactor do what is ready: a client that has its reply goes on meanwhile."""


class Newcomers:
    """`begin` starts the first attempt of one. They wait only where the reactor can tell that nothing else is ready."""

    _log = Logger()

    def __init__(self, reactor: Any, begin: Callable[[Message, list[Key]], None]) -> None:
        self._begin = begin
        self._when_idle = when_idle(reactor)
        self._waiting: list[tuple[Message, list[Key]]] = []

    def add(self, message: Message, keys: list[Key]) -> None:
        """`keys` are claimed."""
        self._waiting.append((message, keys))
        if len(self._waiting) == 1:
            self._when_idle(self._begin_all, REPLIES_FIRST)

    def _begin_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for message, keys in waiting:
            try:
                self._begin(message, keys)
            except Exception:
                self._log.failure("message {message}: not started", message=message.name)
