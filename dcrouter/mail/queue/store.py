"""What the queue asks of a store, and the values that go between them.

Contract of every store: what a Deferred says has happened is durable (as far as the store is), or it fails with
StoreError and nothing has changed. Puts and settles take effect whole, in the order of the calls for one recipient.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from dcrouter.mail.message import Message

QUEUED, FAILED, HELD, HELD_BY_OPERATOR, HELD_NOTICE = range(5)
"""States of a recipient, as the stores write them. HELD: its rule is gone; HELD_NOTICE: a notification for postmaster
that postmaster could not be given. Where nothing is due (all but QUEUED), `due` is the instant since when it is so."""

STATES = {QUEUED: "queued", FAILED: "failed", HELD: "held", HELD_BY_OPERATOR: "held", HELD_NOTICE: "held"}
WHY = {
    HELD: "no rule of this name",
    HELD_BY_OPERATOR: "by the operator",
    HELD_NOTICE: "postmaster could not be told",
}
StateWord = Literal["queued", "deferred", "held", "failed"]
WORDS: tuple[StateWord, ...] = ("queued", "deferred", "held", "failed")
"""What an operator calls them: who waits for a time to come is `deferred`, who is due or under way is `queued`."""

Key = tuple[int, int]
"""(message, number): one recipient."""


class Cursor(NamedTuple):
    """Where a page of due recipients ended; the next one begins behind it. `rank`: the priority, negated."""

    rank: int
    due: float
    message: int
    number: int


START = Cursor(-9, 0.0, 0, -1)
FIRST: Key = (0, -1)
"""Before every recipient."""


class Due(NamedTuple):
    """A recipient that is due. `message` has no octets in memory, and this recipient only."""

    at: Cursor
    message: Message


class Change(NamedTuple):
    """A recipient from now on. `told`: whether its sender has heard of the delay, 0 or 1. `source`: Recipient's."""

    number: int
    state: int
    attempts: int
    due: float
    told: int
    reply: str
    source: str = ""


class Entry(NamedTuple):
    """A recipient with its message, as an operator sees it. `zone`, `source`, `notify` and `orcpt` as of Recipient."""

    message: int
    number: int
    session: str
    sender: str
    received: float
    size: int
    address: str
    rule: str
    state: int
    attempts: int
    due: float
    reply: str
    spooled: bool
    priority: int = 0
    zone: str = ""
    source: str = ""
    notify: str = ""
    orcpt: str = ""

    @property
    def key(self) -> Key:
        return (self.message, self.number)

    def word(self, now: float) -> StateWord:
        if self.state == QUEUED:
            return "deferred" if self.due > now else "queued"
        return "failed" if self.state == FAILED else "held"


@frozen(kw_only=True)
class ZoneIs:
    """Recipients of one sending zone: those of `rules`, which name it; and of no rule of `others`, which name another
    one, those that have it of their own: `name`, "" the default zone.
    """

    name: str
    rules: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@frozen(kw_only=True)
class Selection:
    """Which recipients are meant: those that fit everything that is given.

    `messages`: ids. `sender`, `recipient`: an address, a domain, or a pattern with `*`; case does not count. `sender`
    "": the null sender. `before`: received before this instant. `zone`: the sending zone. `last`: the highest id.
    """

    messages: tuple[int, ...] | None = None
    state: StateWord | None = None
    rule: str | None = None
    sender: str | None = None
    recipient: str | None = None
    before: float | None = None
    zone: ZoneIs | None = None
    last: int | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing is given."""
        return self == Selection()


class Page(NamedTuple):
    """`next`: where the next page begins, None: there is none. A page may have less than was asked for, even nothing,
    and yet a next one."""

    entries: list[Entry]
    next: Key | None


class Ages(NamedTuple):
    """How many recipients came how long ago, by AGES, the last beyond: of domains, and of all that there are."""

    domains: list[tuple[str, list[int]]]
    total: list[int]


class Store(Protocol):
    """One queue's. The spool files of messages that are being received are in `spool`."""

    @property
    def spool(self) -> Path: ...

    @property
    def messages(self) -> int:
        """How many there are."""
        ...

    def open(self) -> int:
        """The highest id so far. Blocks; once, before any mail. Raises StoreError."""
        ...

    def sweep(self) -> Deferred[int]:
        """Removes spool files that an earlier run left and no message names; how many. In the background."""
        ...

    def close(self) -> None:
        """Writes what has gathered and closes; blocks for as long as that takes."""
        ...

    def put(self, message: Message, now: float) -> Deferred[None]:
        """Keeps a new message, all its recipients due at `now`. Its spool file, if any, is durable already."""
        ...

    def finish(self, message: Message) -> Deferred[None]:
        """Everybody has it: the message leaves."""
        ...

    def settle(
        self,
        message: Message,
        gone: Iterable[int],
        changed: Iterable[Change],
        notices: Sequence[Message] = (),
        now: float = 0.0,
    ) -> Deferred[None]:
        """Recipients by number: `gone` have left, others change; `notices` are put with it, all or nothing."""
        ...

    def due(self, behind: Cursor, now: float, limit: int) -> Deferred[list[Due]]:
        """At most `limit` recipients that are due at `now`, the highest priority first, behind a cursor."""
        ...

    def next_due(self, after: float) -> Deferred[float | None]:
        """When the first recipient that is due later than `after` is due, None: there is none."""
        ...

    def octets(self, message: Message) -> Deferred[bytes]:
        """The content of a message that is not spooled; StoreError where it is gone."""
        ...

    def head(self, message: Message, size: int) -> Deferred[bytes]:
        """The first `size` octets of any message; StoreError where it is gone."""
        ...

    def release(self, rules: Iterable[str], now: float) -> Deferred[None]:
        """What was held for the lack of these rules is due at `now`."""
        ...

    def advance(self, beginning: str, now: float, pace: int) -> Deferred[None]:
        """Those that wait for a later time, with a reply that begins so, are due at `now`, `pace` of them at once and
        as many in each second behind."""
        ...

    def shift(self, seconds: float) -> Deferred[None]:
        """The clock was set by so much: all times go along, but those that senders have named for their mail."""
        ...

    def replies(self, beginnings: Sequence[str], now: float, limit: int) -> Deferred[list[str]]:
        """At most `limit` different replies with one of these beginnings, of recipients that wait for a later time."""
        ...

    def failed(self, before: float, limit: int) -> Deferred[list[Entry]]:
        """At most `limit` recipients that failed before an instant, first those that failed first."""
        ...

    def first_failed(self) -> Deferred[float | None]:
        """Since when the one that failed first has, None: there is none."""
        ...

    def pick(self, selection: Selection, behind: Key, limit: int, now: float) -> Deferred[Page]:
        """Recipients in order of (message, number)."""
        ...

    def change(
        self, keys: Sequence[Key], states: Sequence[int], state: int, due: float, *, advance: bool = False
    ) -> Deferred[None]:
        """Those of `keys` that are in one of `states` are in `state` from now on; `advance`: unless due earlier."""
        ...

    def reroute(self, keys: Sequence[Key], rule: str) -> Deferred[None]:
        """These recipients belong to `rule` from now on."""
        ...

    def remove(self, keys: Sequence[Key]) -> Deferred[None]:
        """These recipients leave, whatever their state."""
        ...

    def counts(self, now: float) -> Deferred[dict[str, Any]]:
        """Recipients by WORDS, and `oldest`: when the oldest message came, or None."""
        ...

    def stats(self, now: float, top: int) -> Deferred[dict[str, Any]]:
        """`counts`, and `messages`, `octets`, `largest`, `rules` and `domains` (the `top` that have most)."""
        ...

    def ages(self, now: float, top: int) -> Deferred[Ages]:
        """Of the `top` domains that have most recipients."""
        ...


AGES = (5, 10, 20, 40, 80, 160, 320, 640, 1280)
"""Minutes: a recipient is counted at the first that its age does not pass."""


def between(younger: list[int]) -> list[int]:
    """How many there are of each age, of how many there are up to each."""
    return [count - before for count, before in zip(younger, [0, *younger], strict=False)]


def tally(states: Iterable[tuple[int, bool, int]]) -> dict[str, int]:
    """Recipients by WORDS, of (state, whether due later, count)."""
    counts: dict[str, int] = dict.fromkeys(WORDS, 0)
    for state, later, count in states:
        word = "deferred" if state == QUEUED and later else STATES[state]
        counts[word] += count
    return counts
