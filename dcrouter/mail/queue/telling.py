"""Has somebody told of what became of a message: its beginning is read, and the notification is written."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.errors import StoreError
from dcrouter.mail.message import Message
from dcrouter.mail.queue.notices import Ended, Notices
from dcrouter.mail.queue.store import Store

AT_ONCE = 16
"""Beginnings that are read at once: what comes of thousands that fail together is not written in one go."""


class Telling:
    """`notices`: who writes; None: nobody is told of anything."""

    _log = Logger()

    def __init__(self, store: Store) -> None:
        self.notices: Notices | None = None
        self._store = store
        self._turns = DeferredSemaphore(AT_ONCE)

    def head(self, message: Message) -> Deferred[bytes]:
        """What a notification may quote; nothing where it cannot be read: that it failed is told all the same."""
        assert self.notices is not None
        octets = self.notices.octets(message)
        if message.octets is not None:
            return succeed(message.octets[:octets])
        return self._turns.run(self._store.head, message, octets).addErrback(self._headless, message)

    def notice(self, message: Message, told: Sequence[Ended], head: bytes) -> Message | None:
        """None: nobody is told, or it could not be written."""
        if not told:
            return None
        assert self.notices is not None
        try:
            return self.notices.told(message, told, head)
        except Exception:
            self._log.failure("message {message}: no notification could be written", message=message.name)
            return None

    def _headless(self, failure: Failure, message: Message) -> bytes:
        failure.trap(StoreError)
        reason = failure.getErrorMessage()
        self._log.error("message {message} cannot be quoted: {reason}", message=message.name, reason=reason)
        return b""
