"""The mail queue in the memory of the process, gone with it: for tests, and for relays whose senders keep their mail.

The same contract as on disk, without its durability. Bodies are bounded by MAX_OCTETS; large ones are spool files all
the same, in a directory of their own, which is emptied at the start.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from attrs import define, evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from dcrouter.durable import make_directory
from dcrouter.errors import StoreError, StoreFull
from dcrouter.mail.envelope import Recipient
from dcrouter.mail.message import Message
from dcrouter.mail.queue.parts import part_for
from dcrouter.mail.queue.room import unopened
from dcrouter.mail.queue.store import (
    FAILED,
    HELD,
    QUEUED,
    Ages,
    Change,
    Cursor,
    Due,
    Entry,
    Key,
    Page,
    Selection,
    tally,
)
from dcrouter.mail.queue.stores import spool, tallies
from dcrouter.mail.queue.stores.patterns import Matcher
from dcrouter.mail.queue.stores.schema import FILE

MAX_OCTETS = 256 * 1024 * 1024
"""Of bodies in memory; then 452 4.3.1."""

AT_ONCE = 5000
"""Recipients that are looked at before the reactor has its turn."""

SPOOL = "memory-spool"


@define
class Kept:
    """A recipient's row. `rank`: its message's priority, negated."""

    recipient: Recipient
    rank: int
    state: int
    due: float
    reply: str

    def at(self, message: int) -> Cursor:
        return Cursor(self.rank, self.due, message, self.recipient.number)


@define(eq=False)
class Record:
    """A message, its octets where they are not in a spool file, and its recipients by number."""

    message: Message
    octets: bytes
    recipients: dict[int, Kept]


class MemoryStore:
    """Spool files are under `directory`. It implements `Store`."""

    _log = Logger()

    def __init__(self, directory: Path, reactor: Any, max_octets: int = MAX_OCTETS) -> None:
        self.spool = directory / SPOOL
        self._reactor = reactor
        self._max_octets = max_octets
        self._octets = 0
        self._records: dict[int, Record] = {}
        self._order: list[int] = []
        self._by_due: dict[tuple[int, int], list[Cursor]] = {}
        self._files = ThreadPool(0, 1, "mail-spool")
        self._left: list[int] = []
        self._open = False

    @property
    def messages(self) -> int:
        return len(self._records)

    def open(self) -> int:
        try:
            make_directory(self.spool)
            self.spool.parent.chmod(0o700)
            self._left = spool.listed(self.spool)
        except OSError as error:
            raise unopened(self.spool, f"the mail queue in {self.spool}: {error}") from error
        if (self.spool.parent / FILE).exists():
            self._log.warn(
                "email.queue.store is memory: what {path} holds is not sent", path=str(self.spool.parent / FILE)
            )
        self._files.start()
        self._open = True
        return max(self._left, default=0)

    def sweep(self) -> Deferred[int]:
        left, self._left = self._left, []
        if not left:
            return succeed(0)
        return self._in_thread(spool.remove, self.spool, left).addCallback(lambda _: len(left))

    def close(self) -> None:
        if self._open:
            self._open = False
            self._files.stop()

    # ------------------------------------------------------------------ writing

    def put(self, message: Message, now: float) -> Deferred[None]:
        if not self._open:
            raise StoreError("the mail queue is closed")
        size = len(message.octets or b"")
        if self._octets + size > self._max_octets:
            return fail(StoreFull(f"the queue in memory holds {self._max_octets} octets"))
        self._add(message, now)
        return succeed(None)

    def finish(self, message: Message) -> Deferred[None]:
        record = self._records.get(message.id)
        if record is not None:
            for number in list(record.recipients):
                self._drop(message.id, number)
        return self._done()

    def settle(
        self,
        message: Message,
        gone: Iterable[int],
        changed: Iterable[Change],
        notices: Sequence[Message] = (),
        now: float = 0.0,
    ) -> Deferred[None]:
        if not self._open:
            raise StoreError("the mail queue is closed")
        for change in changed:
            self._set(message.id, change)
        for number in gone:
            self._drop(message.id, number)
        for notice in notices:
            self._add(notice, now)
        return succeed(None)

    def release(self, rules: Iterable[str], now: float) -> Deferred[None]:
        names = set(rules)
        for at in [at for _, rows in self._in_state(HELD) for at in rows]:
            kept = self._records[at.message].recipients[at.number]
            if kept.recipient.rule in names:
                self._move((at.message, at.number), kept, QUEUED, now)
        return self._done()

    def advance(self, beginning: str, now: float, pace: int) -> Deferred[None]:
        found = [
            (kept.due, at.message, at.number, kept)
            for _, rows in self._in_state(QUEUED)
            for at in rows
            if (kept := self._records[at.message].recipients[at.number]).due > now and kept.reply.startswith(beginning)
        ]
        for place, (due, message, number, kept) in enumerate(sorted(found, key=lambda one: one[:3])):
            if due > now + place // pace:
                self._move((message, number), kept, QUEUED, now + place // pace)
        return self._done()

    def shift(self, seconds: float) -> Deferred[None]:
        for number, record in self._records.items():
            record.message = evolve(record.message, received=record.message.received + seconds)
            for kept in record.recipients.values():
                if kept.state != QUEUED or kept.due > record.message.envelope.terms.release:
                    self._move((number, kept.recipient.number), kept, kept.state, kept.due + seconds)
        return self._done()

    def change(
        self, keys: Sequence[Key], states: Sequence[int], state: int, due: float, *, advance: bool = False
    ) -> Deferred[None]:
        for key in keys:
            kept = self._find(key)
            if kept is not None and kept.state in states and not (advance and kept.due <= due):
                self._move(key, kept, state, due)
        return self._done()

    def reroute(self, keys: Sequence[Key], rule: str) -> Deferred[None]:
        for key in keys:
            kept = self._find(key)
            if kept is not None:
                kept.recipient = evolve(kept.recipient, rule=rule)
        return self._done()

    def remove(self, keys: Sequence[Key]) -> Deferred[None]:
        for message, number in keys:
            self._drop(message, number)
        return self._done()

    # ------------------------------------------------------------------ reading

    def due(self, behind: Cursor, now: float, limit: int) -> Deferred[list[Due]]:
        if not self._open:
            return fail(StoreError("the mail queue is closed"))
        page: list[Cursor] = []
        for _, queued in self._in_state(QUEUED):
            start = bisect_right(queued, behind)
            page += [at for at in queued[start : start + limit - len(page)] if at.due <= now]
        return succeed([Due(at, self._alone(at)) for at in page])

    def next_due(self, after: float) -> Deferred[float | None]:
        following = []
        for rank, queued in self._in_state(QUEUED):
            at = bisect_left(queued, (rank, after, 1 << 63, 0))
            following += [queued[at].due] if at < len(queued) else []
        return succeed(min(following, default=None))

    def octets(self, message: Message) -> Deferred[bytes]:
        record = self._records.get(message.id)
        if record is None or record.message.spooled:
            return fail(StoreError(f"message {message.name} has no content in the queue"))
        return succeed(record.octets)

    def head(self, message: Message, size: int) -> Deferred[bytes]:
        if not message.spooled:
            return self.octets(message).addCallback(lambda octets: octets[:size])

        def read() -> bytes:
            try:
                return spool.beginning(self.spool, message.id, size)
            except OSError as error:
                raise StoreError(f"message {message.name}: {error}") from error

        return self._in_thread(read)

    def failed(self, before: float, limit: int) -> Deferred[list[Entry]]:
        failed = self._failed()[:limit]
        return succeed([self._entry((at.message, at.number)) for at in failed if at.due < before])

    def first_failed(self) -> Deferred[float | None]:
        failed = self._failed()
        return succeed(failed[0].due if failed else None)

    def replies(self, beginnings: Sequence[str], now: float, limit: int) -> Deferred[list[str]]:
        rows = [self._records[at.message].recipients[at.number] for _, those in self._in_state(QUEUED) for at in those]
        found = {kept.reply for kept in rows if kept.due > now and kept.reply.startswith(tuple(beginnings))}
        return succeed(sorted(found)[:limit])

    def pick(self, selection: Selection, behind: Key, limit: int, now: float) -> Deferred[Page]:
        if not self._open:
            return fail(StoreError("the mail queue is closed"))
        matcher = Matcher(selection, now)
        entries: list[Entry] = []
        looked = 0
        for at in range(bisect_left(self._order, behind[0]), len(self._order)):
            message = self._order[at]
            for number in sorted(self._records[message].recipients):
                key = (message, number)
                if key <= behind:
                    continue
                if len(entries) == limit or looked >= AT_ONCE:
                    page = Page(entries, behind)
                    return deferLater(self._reactor, 0, lambda page=page: page)
                entry = self._entry(key)
                looked += 1
                behind = key
                if matcher.matches(entry):
                    entries.append(entry)
        return succeed(Page(entries, None))

    def counts(self, now: float) -> Deferred[dict[str, Any]]:
        states = []
        for (state, rank), rows in self._by_due.items():
            here = bisect_right(rows, (rank, now, 1 << 63, 0))
            states += [(state, False, here), (state, True, len(rows) - here)]
        oldest = self._records[self._order[0]].message.received if self._order else None
        return succeed({**tally(states), "oldest": oldest})

    def stats(self, now: float, top: int) -> Deferred[dict[str, Any]]:
        return Deferred.fromCoroutine(tallies.stats(self, now, top))

    def ages(self, now: float, top: int) -> Deferred[Ages]:
        return Deferred.fromCoroutine(tallies.ages(self, now, top))

    # ------------------------------------------------------------------

    def _done(self) -> Deferred[None]:
        if not self._open:
            raise StoreError("the mail queue is closed")
        return succeed(None)

    def _in_thread(self, call: Any, *args: Any) -> Deferred[Any]:
        if not self._open:
            return fail(StoreError("the mail queue is closed"))
        return deferToThreadPool(self._reactor, self._files, call, *args)

    def _add(self, message: Message, now: float) -> None:
        octets = b"" if message.spooled else message.octets or b""
        self._octets += len(octets)
        recipients: dict[int, Kept] = {}
        self._records[message.id] = Record(message.forgotten(), octets, recipients)
        insort(self._order, message.id)
        for one in message.envelope.recipients:
            kept = recipients[one.number] = Kept(one, -message.envelope.terms.priority, QUEUED, now, "")
            self._list(message.id, kept)

    def _in_state(self, state: int) -> list[tuple[int, list[Cursor]]]:
        """By rank, in order."""
        return sorted((rank, rows) for (its, rank), rows in self._by_due.items() if its == state)

    def _failed(self) -> list[Cursor]:
        return sorted((at for _, rows in self._in_state(FAILED) for at in rows), key=lambda at: at[1:])

    def _find(self, key: Key) -> Kept | None:
        record = self._records.get(key[0])
        return record.recipients.get(key[1]) if record is not None else None

    def _move(self, key: Key, kept: Kept, state: int, due: float) -> None:
        self._unlist(key[0], kept)
        kept.state, kept.due = state, due
        self._list(key[0], kept)

    def _list(self, message: int, kept: Kept) -> None:
        insort(self._by_due.setdefault((kept.state, kept.rank), []), kept.at(message))

    def _unlist(self, message: int, kept: Kept) -> None:
        rows = self._by_due[kept.state, kept.rank]
        del rows[bisect_left(rows, kept.at(message))]

    def _set(self, message: int, change: Change) -> None:
        kept = self._find((message, change.number))
        if kept is not None:
            self._move((message, change.number), kept, change.state, change.due)
            kept.recipient = evolve(
                kept.recipient, attempts=change.attempts, told=bool(change.told), source=change.source
            )
            kept.reply = change.reply

    def _drop(self, message: int, number: int) -> None:
        record = self._records.get(message)
        kept = record.recipients.pop(number, None) if record is not None else None
        if record is None or kept is None:
            return
        self._unlist(message, kept)
        if not record.recipients:
            del self._records[message]
            del self._order[bisect_left(self._order, message)]
            self._octets -= len(record.octets)
            if record.message.spooled and self._open:
                self._in_thread(spool.remove, self.spool, [message]).addErrback(lambda _: None)

    def _alone(self, at: Cursor) -> Message:
        record = self._records[at.message]
        return part_for(record.message, (record.recipients[at.number].recipient,))

    def _entry(self, key: Key) -> Entry:
        record = self._records[key[0]]
        message, kept = record.message, record.recipients[key[1]]
        one = kept.recipient
        return Entry(
            *key, message.envelope.session, message.envelope.sender, message.received, message.size, one.address,
            one.rule, kept.state, one.attempts, kept.due, kept.reply, message.spooled,
            message.envelope.terms.priority, one.zone, one.source, one.notify, one.orcpt,
        )  # fmt: skip
