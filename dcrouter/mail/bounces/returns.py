"""Mail that comes back: reports of failures and complaints about what we have sent, matched, counted, learnt from.

A message to a marked sender (marks.py) with the null reverse-path, or one to an address of `bounces.feedback`, is
looked at once it is kept; it goes on its way all the same. What a report says of a recipient is only believed where the
mark was made for that very address: so nobody can have another one suppressed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dcrouter.config.mail import Email
from dcrouter.errors import StoreError
from dcrouter.events import MailReturned
from dcrouter.mail.bounces.inbound import Inbound
from dcrouter.mail.bounces.marks import Mark, Marks
from dcrouter.mail.bounces.suppression import Suppression, key_of
from dcrouter.mail.envelope import Recipient
from dcrouter.mail.message import Message
from dcrouter.wire.returned import MAX_OCTETS, Fate, Returned, may_be, read

MAX_WAITING = 1000
"""Reports that wait to be looked at; more are not."""
NOT_A_COMPLAINT = "not-spam"
FEEDBACK = "feedback"

Read = Callable[[Message, int], Deferred[bytes]]
"""The first octets of a message that is queued."""


class Returns:
    """`told` hears of each report that is matched; `now`: UTC epoch seconds. `counters`: since the start; `unmatched`
    are reports that are about nothing we know.
    """

    _log = Logger()

    def __init__(
        self,
        marks: Marks,
        suppression: Suppression,
        read: Read,
        clock: Any,
        now: Callable[[], float],
        told: Callable[[MailReturned], None] | None,
    ) -> None:
        self.counters = {"returned": 0, "complaints": 0, "unmatched": 0}
        self._marks = marks
        self._suppression = suppression
        self._read = read
        self._clock = clock
        self._now = now
        self._told = told
        self._waiting: deque[Message] = deque()
        self._at_work = False
        self._feedback: frozenset[bytes] = frozenset()
        self._inbound: Inbound | None = None
        self.verp = False

    def reload(self, email: Email) -> None:
        """As another configuration says, from now on; the first that wants marks has a key made, which blocks."""
        self._feedback = frozenset(key_of(address) for address in email.bounces.feedback)
        self.verp = email.bounces.verp
        self._inbound = Inbound(email) if self.verp else None
        if self.verp or self._feedback:
            self._marks.open()

    def bare(self, address: str) -> str | None:
        """The sender behind a marked address, None where it has no mark of ours."""
        mark = self._marks.read(address)
        return None if mark is None else mark.sender

    def marked(self, message: Message, recipient: Recipient) -> Message | None:
        """The message with a sender that is of this recipient only; None where that is not wanted, or cannot be.

        Senders elsewhere (of mail that an alias sends on, of a client that relays) stay: nobody there knows our marks,
        and what has failed would be told to nobody.
        """
        envelope = message.envelope
        if self._inbound is None or not envelope.sender or not self._inbound.takes(envelope.sender):
            return None
        sender = self._marks.marked(envelope.sender, message.id, recipient.number, recipient.address)
        return evolve(message, envelope=evolve(envelope, sender=sender, recipients=(recipient,)))

    @property
    def expected(self) -> bool:
        """Whether anything may come back that is to be looked at."""
        return bool(self.verp or self._feedback)

    def kept(self, message: Message) -> None:
        """A message has come, and is queued, while such are expected."""
        envelope = message.envelope
        to_feedback = any(key_of(one.address) in self._feedback for one in envelope.recipients)
        if not to_feedback and (envelope.sender or not self._mark_of(message)):
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(message)
            self._next()

    def _next(self) -> None:
        if self._waiting and not self._at_work:
            self._at_work = True
            looking = Deferred.fromCoroutine(self._look(self._waiting.popleft()))
            looking.addErrback(lambda failure: self._log.failure("a report cannot be looked at", failure))
            looking.addCallback(lambda _: self._clock.callLater(0, self._rested))

    def _rested(self) -> None:
        self._at_work = False
        self._next()

    async def _look(self, message: Message) -> None:
        try:
            octets = message.octets if message.octets is not None else await self._read(message, MAX_OCTETS)
        except StoreError:
            return  # it has been delivered meanwhile, and nobody has it any more
        report = read(octets) if may_be(octets[:65536]) else None
        if report is None:
            return
        mark = self._mark_of(message) or self._mark_in(octets)
        if mark is None:
            self.counters["unmatched"] += 1
        elif report.feedback:
            self._complaint(mark, report)
        else:
            for fate in report.fates:
                self._fate(mark, fate)

    def _mark_of(self, message: Message) -> Mark | None:
        """That of the address to which it was sent."""
        for one in message.envelope.recipients:
            mark = self._marks.read(one.orcpt.partition(";")[2]) if one.orcpt else None
            if mark is not None:
                return mark
        return None

    def _mark_in(self, octets: bytes) -> Mark | None:
        """One that the report quotes: the sender of the message that it is about."""
        for word in _words(octets):
            mark = self._marks.read(word)
            if mark is not None:
                return mark
        return None

    def _fate(self, mark: Mark, fate: Fate) -> None:
        address = next((one for one in fate.addresses if self._marks.about(mark, one)), None)
        self.counters["returned"] += 1
        if address is not None and fate.action == "failed":
            self._suppression.failed(address, fate.reply)
        self._tell(mark, fate.action, address, fate.reply)

    def _complaint(self, mark: Mark, report: Returned) -> None:
        address = next((one for one in report.addresses if self._marks.about(mark, one)), None)
        if report.feedback != NOT_A_COMPLAINT:
            self.counters["complaints"] += 1
            if address is not None:
                self._suppression.complained(address)
        self._tell(mark, FEEDBACK, address, report.feedback)

    def _tell(self, mark: Mark, what: str, address: str | None, reply: str) -> None:
        self._log.info(
            "message {message} from {sender}: {what} for {recipient} ({reply})",
            message=f"{mark.message:x}",
            sender=mark.sender,
            what=what,
            recipient=address or "an address that it was not sent to",
            reply=reply,
        )
        if self._told is not None:
            self._told(
                MailReturned(
                    at=round(self._now(), 3),
                    message=f"{mark.message:x}",
                    sender=mark.sender,
                    recipient=address,
                    what=what,
                    reply=reply,
                )
            )


def _words(octets: bytes) -> list[str]:
    """What looks like a marked address."""
    text = octets[:MAX_OCTETS].decode("ascii", "replace")
    return [word.strip("<>;,\"'()") for word in text.split() if "+" in word and "@" in word][:200]
