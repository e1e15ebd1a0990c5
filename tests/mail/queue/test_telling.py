"""Whom notifications quote: the beginnings of messages, read for those that fail together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dcrouter.mail.message import Message
from dcrouter.mail.queue.stores.memory import MemoryStore
from dcrouter.mail.queue.telling import AT_ONCE, Telling
from tests.mail.queue.made import TEXT, message


class Slow(MemoryStore):
    """`most`: beginnings that were read at once."""

    reading = most = 0

    def head(self, message: Message, size: int) -> Deferred[bytes]:
        self.reading += 1
        self.most = max(self.most, self.reading)
        return deferLater(reactor, 0.001).addCallback(lambda _: self.read(message, size))

    def read(self, message: Message, size: int) -> Deferred[bytes]:
        self.reading -= 1
        return super().head(message, size)


class Quoting:
    def octets(self, message: Message) -> int:
        return 10

    def told(self, message: Message, ended: Any, head: bytes) -> Message | None:
        raise AssertionError("nobody asks")


class TellingTests(TestCase):
    async def test_a_few_beginnings_are_read_at_once(self) -> None:
        """Of as many as fail together; what is in memory waits for nobody."""
        store = Slow(Path(self.mktemp()), reactor)
        self.addCleanup(store.close)
        store.open()
        telling = Telling(store)
        telling.notices = Quoting()
        messages = [message(number) for number in range(1, 4 * AT_ONCE)]
        for one in messages:
            await store.put(one, 0.0)
        heads = [telling.head(one.forgotten()) for one in messages]
        self.assertEqual(self.successResultOf(telling.head(messages[0])), TEXT[:10])
        self.assertEqual(await gatherResults(heads), [TEXT[:10]] * len(messages))
        self.assertEqual(store.most, AT_ONCE)
