"""Who was promised what, and what came of it: the counter at the far end.

Every message has a token of its own, which is its sender, its subject, and in each of its lines; `Item` is one
recipient of one message. After each kill the store is read as the kill has left it, which decides at once:

- an acknowledged item is in the store, or has arrived; else it is lost;
- an item that has arrived may come once more where the store still has it, and never where it does not.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from random import Random

from attrs import define, field, frozen

from bench.reliability.plan import Figures
from dcrouter.mail.message import IN_MEMORY

LARGE = IN_MEMORY + 35_000
"""Octets: beyond dcrouter's limit for bodies in the database, so it is a spool file."""

REFUSED = "refused@sink.test"
"""The far end refuses this recipient for good: its sender gets a notification."""

_TOKEN = re.compile(rb"(k\d+)@load\.test")

Item = tuple[str, str]
"""(token, recipient). For a message to REFUSED: its sender stands for it, who gets the notification."""


@frozen(kw_only=True)
class Parcel:
    """One message. `text`: from its Subject on, without dot-stuffing."""

    token: str
    recipients: tuple[str, ...]
    text: bytes

    @property
    def sender(self) -> str:
        return f"{self.token}@load.test"

    @property
    def items(self) -> list[Item]:
        return [(self.token, one) for one in self.recipients]


@define
class Ledger:
    """Counts into `figures`, under the name of the kill that is spoken of."""

    random: Random
    figures: dict[str, Figures] = field(factory=dict)
    complaints: list[str] = field(factory=list)
    acknowledged: set[Item] = field(factory=set)
    arrived: Counter[Item] = field(factory=Counter)
    _numbers: int = 0
    _digests: dict[str, bytes] = field(factory=dict)
    _sent: dict[str, Parcel] = field(factory=dict)
    _allowed: dict[Item, int] = field(factory=dict)
    _blame: dict[Item, str] = field(factory=dict)
    _counted: int = 0
    _accused: set[Item] = field(factory=set)
    _filed: set[Item] = field(factory=set)

    def of(self, name: str) -> Figures:
        return self.figures.setdefault(name, Figures())

    # ------------------------------------------------------------------ what is sent

    def parcel(self, *, refused: bool = False, simple: bool = False) -> Parcel:
        """A new message: one in five is large; one to four recipients, at the far end and in Maildirs.

        `refused`: its recipient will be refused. `simple`: one recipient, at the far end.
        """
        self._numbers += 1
        token = f"k{self._numbers}"
        random = self.random
        names = [f"{name}@{domain}" for name in "abc" for domain in ("sink.test", "sink.test", "box.test")]
        recipients = random.sample(sorted(set(names)), random.choice((1, 1, 2, 4)))
        if refused or simple:
            recipients = [REFUSED] if refused else ["a@sink.test"]
        size = LARGE if random.random() < 0.2 else random.randrange(100, 8000)
        lines = (f"{token} {number} " + "x" * 60 for number in range(size // 66 + 1))
        text = f"Subject: {token}\r\nFrom: {token}@load.test\r\n\r\n.{token}\r\n" + "\r\n".join(lines) + "\r\n"
        parcel = Parcel(token=token, recipients=tuple(recipients), text=text.encode())
        self._digests[token] = hashlib.sha256(parcel.text).digest()
        self._sent[token] = parcel
        return parcel

    def told(self, parcel: Parcel) -> None:
        """Its client has read the 250."""
        self.acknowledged.update(parcel.items)

    # ------------------------------------------------------------------ what comes

    def take(self, sender: str, recipients: list[str], octets: bytes, blame: str) -> str | None:
        """A whole message at the far end, which is about to be acknowledged; gives its token, None for a stranger's."""
        if sender:
            token = sender.partition("@")[0]
            items = [(token, one) for one in recipients]
            self._compare(token, octets, b"\r\n", blame)
        else:
            found = _TOKEN.search(octets)
            if found is None:
                self._complain(blame, "damaged", f"a notification without a token: {octets[:2000]!r}")
                return None
            token = found[1].decode()
            items = [(token, REFUSED)]
        for item in items:
            self._arrive(item, blame)
        return token

    def file(self, octets: bytes, box: str, blame: str) -> Item | None:
        """A file in a Maildir; its item."""
        found = _TOKEN.search(octets)
        if found is None:
            self._complain(blame, "damaged", f"{box}: {octets[:200]!r}")
            return None
        token = found[1].decode()
        self._compare(token, octets, b"\n", blame)
        return (token, box)

    def filed(self, item: Item, blame: str) -> None:
        """A file of a name that has not been seen before holds it: delivered again, a message replaces its file."""
        if item in self._filed:
            self._complain(blame, "doubled", f"{item} has a second file")
        self._filed.add(item)

    def _compare(self, token: str, octets: bytes, end: bytes, blame: str) -> None:
        text = octets[octets.find(b"Subject: ") :].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if hashlib.sha256(text).digest() != self._digests.get(token):
            self._complain(blame, "damaged", f"{token}: {len(octets)} octets, ends {octets[-80:]!r}")

    def _arrive(self, item: Item, blame: str) -> None:
        self.arrived[item] += 1
        if self.arrived[item] > 1:
            guilty = self._blame.get(item, blame)
            if self.arrived[item] <= self._allowed.get(item, 1):
                self.of(guilty).again += 1
            else:
                self._complain(guilty, "doubled", f"{item} has come {self.arrived[item]} times")

    # ------------------------------------------------------------------ the reckoning

    def stock(self, name: str, queued: set[Item], boxes: set[Item]) -> None:
        """After a kill and before anything goes on: `queued` is in the store, `boxes` in a Maildir."""
        figures = self.of(name)
        figures.acknowledged += len(self.acknowledged) - self._counted
        self._counted = len(self.acknowledged)
        figures.untold += len(queued - self.acknowledged - self._blame.keys())
        for item in self.arrived:
            self._allowed[item] = self.arrived[item] + (item in queued)
        for item in queued:
            self._blame[item] = name
        self._missing(name, queued | boxes)

    def final(self, name: str, queued: set[Item], boxes: set[Item]) -> None:
        """At the end, when nothing is under way: all that was acknowledged has arrived."""
        self._missing(name, boxes)
        for item in queued:
            if item not in self._accused:
                self._accused.add(item)
                self._complain(self._blame.get(item, name), "lost", f"{item} stays in the queue")

    def _missing(self, name: str, elsewhere: set[Item]) -> None:
        for item in self.acknowledged:
            if not self.arrived[item] and item not in self._accused and item not in elsewhere:
                self._accused.add(item)
                size = len(self._sent[item[0]].text)
                self._complain(self._blame.get(item, name), "lost", f"{item} of {size} octets was acknowledged")

    def _complain(self, name: str, what: str, text: str) -> None:
        figures = self.of(name)
        setattr(figures, what, getattr(figures, what) + 1)
        self.complaints.append(f"{name}: {what}: {text}")
