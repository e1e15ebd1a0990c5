"""One message on its way in: from MAIL to the answer for all its recipients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.errors import StoreError, StoreFull
from dcrouter.mail.authentication.checks import Checks
from dcrouter.mail.authentication.results import Judgement
from dcrouter.mail.delivery.outcome import Failed
from dcrouter.mail.envelope import PLAIN, Client, Envelope, Recipient, Terms
from dcrouter.mail.floor import Floor
from dcrouter.mail.message import Message
from dcrouter.mail.pipeline.conditions import Content
from dcrouter.mail.queue.notices import Ended
from dcrouter.mail.server.admitted import Accepted, Course
from dcrouter.mail.server.denial import Denial
from dcrouter.mail.server.ends import ended
from dcrouter.mail.server.intake import Intake
from dcrouter.mail.server.refusals import log_refusal
from dcrouter.mail.server.submission import complete
from dcrouter.mail.server.users import User
from dcrouter.wire.header import Head
from dcrouter.wire.smtp.command import Sender
from dcrouter.wire.smtp.parameters import NO_REPORT, NO_WISHES, Report
from dcrouter.wire.smtp.said import FULL

if TYPE_CHECKING:
    from dcrouter.mail.server.sessions import Sessions

_BROKEN = b"451 4.3.0 The message could not be kept\r\n"


class Transaction:
    """`begin`, `add`, `end`; `abandon` instead of `end` where the client breaks off.

    `user`: whom the client has logged in as. `recipients`: by address. `course`: what admission knows of it. `helo`:
    the client's name for itself.
    """

    _log = Logger()

    def __init__(
        self, sessions: Sessions, session: str, client: Client, user: User | None, sender: Sender, course: Course
    ) -> None:
        self.recipients: dict[str, Accepted] = {}
        self.course = course
        self.helo = ""
        self.sender = sender.address
        self._wishes = sender.wishes
        self._reports: dict[str, Report] = {}
        self._announced = sender.size or 0
        self._binary = sender.binary
        self._utf8 = sender.utf8
        self._sessions = sessions
        self._session = session
        self._client = client
        self._user = user
        self._checks: Checks | None = None
        self._vouched = False
        self._undecided = False  # whether the message decides about a recipient
        self._field = b""
        self._refusals: list[tuple[Accepted, Denial]] = []
        self._message = 0
        self._intake: Intake | None = None
        self.floor: Floor  # once the message has begun

    @property
    def begun(self) -> bool:
        """Whether octets of the message are here, or come next."""
        return self._intake is not None

    @property
    def backlogged(self) -> bool:
        """Whether the client has to wait for the disk."""
        return self._intake is not None and self._intake.backlogged

    def admit(self, recipient: Accepted, report: Report = NO_REPORT) -> None:
        """One more recipient, and what the sender wants to hear of it. With the first one begins what is checked of a
        stranger.
        """
        address = recipient.address
        if address not in self.recipients or self.recipients[address].choices:
            self.recipients[address] = recipient
            if recipient.choices or self._undecided:
                self._undecided = any(one.choices for one in self.recipients.values())
        if recipient.asked and not report.orcpt:
            report = report._replace(orcpt=f"rfc822;{recipient.asked}")
        if report is not NO_REPORT:
            self._reports[address] = report
        client = self._client
        if self._checks is None and client.kind == "smtp" and not client.may_relay:
            self._checks = self._sessions.authentication.check(client.address, self.helo, self.sender)

    def begin(self, trace: Callable[[str, str | None], bytes], room: Callable[[], None]) -> None:
        """The message's octets are next. `trace` makes Received of its name and its only recipient (or None); `room`
        is called when `backlogged` has ended.
        """
        sessions = self._sessions
        self._message = sessions.ids.next()
        name = f"{self._message:x}"
        asked = {one.asked or one.address for one in self.recipients.values()}
        only = asked.pop() if len(asked) == 1 else None
        adding = None
        if self._client.kind != "smtp" or self._user is not None:
            adding = partial(complete, user=self._user, name=name, hostname=sessions.hostname, now=time.time())
        self._intake = Intake(
            sessions.spool,
            self._message,
            trace(name, only),
            room,
            adding,
            self._announced,
            self._checks,
            asked=self._undecided,
            utf8=self._utf8,
        )
        self.floor = Floor(sessions.clock.seconds())

    def add(self, octets: bytes) -> None:
        assert self._intake is not None
        self.floor.moved += len(octets)
        self._intake.add(octets)

    def end(self, octets: bytes, dotless: bool) -> bytes | Deferred[bytes]:
        """The last octets, and whether any line of it all begins with a dot; gives the answer to the whole message.
        From then on it is not this session's to take back.

        The Deferred never fails.
        """
        intake, self._intake = self._intake, None
        assert intake is not None
        if octets:
            intake.add(octets)
        checks = self._checks
        if checks is None or not checks.awaited:
            return self._finish(intake, dotless)
        intake.look()
        if intake.refusal is not None:
            checks.abandon()
            return self._finish(intake, dotless)
        args = (intake, checks, dotless)
        return checks.judge().addCallbacks(self._judged, self._not_kept, callbackArgs=args, errbackArgs=(intake,))

    def _judged(self, judgement: Judgement, intake: Intake, checks: Checks, dotless: bool) -> Deferred[bytes]:
        """It is known who it is from. What fails once the message is durable must not take it back."""
        try:
            finished = self._finish_judged(judgement, intake, checks, dotless)
        except Exception:
            return succeed(self._not_kept(Failure(), intake))
        return finished if isinstance(finished, Deferred) else succeed(finished)

    def _finish_judged(
        self, judgement: Judgement, intake: Intake, checks: Checks, dotless: bool
    ) -> bytes | Deferred[bytes]:
        if judgement.refusal is not None:
            intake.abandon()
            return self._refused(judgement.refusal)
        self._vouched = judgement.vouched
        if self._undecided:
            self._field = checks.field(judgement.entries, None)  # for rules, without filling
        intake.seal(checks.field(judgement.entries, intake.room))
        return self._finish(intake, dotless)

    def _finish(self, intake: Intake, dotless: bool) -> bytes | Deferred[bytes]:
        reply = self._decided(intake) if self._undecided else None
        if reply is not None:
            intake.abandon()
            return self._refused(reply)
        ended = intake.end()
        if intake.refusal is not None:
            return self._refused(intake.refusal)
        if ended is None:
            return self._keep(None, intake, dotless)
        return ended.addCallbacks(self._keep, self._not_kept, callbackArgs=(intake, dotless), errbackArgs=(intake,))

    def _decided(self, intake: Intake) -> bytes | None:
        """The message tells who gets it; the reply where nobody does."""
        intake.look()
        if intake.refusal is not None:
            return None
        ends = ended(self.recipients.values(), Content(Head(self._field + intake.head), intake.arrived))
        self._sessions.admission.settled(ends)
        for one, denial in ends.refused:
            log_refusal(self._session, self._client.address, one.address, denial.reply, denial.why)
        self.recipients = {one.address: one for one in ends.taken}
        self._refusals = ends.refused
        return None if ends.taken else ends.reply

    def _refused(self, reply: bytes) -> bytes:
        self._log.info(
            "{session}: a message from {sender} refused: {reply}",
            session=self._session,
            sender=self.sender or "<>",
            reply=reply.decode("ascii").rstrip(),
            peer=self._client.address,
        )
        return reply

    def abandon(self) -> None:
        """Nothing of it stays."""
        if self._checks is not None:
            self._checks.abandon()
            self._checks = None
        if self._intake is not None:
            self._intake.abandon()
            self._intake = None

    def _keep(self, _: None, intake: Intake, dotless: bool) -> Deferred[bytes]:
        """Fires with the answer, once the message is durable or could not be made so."""
        keep = self._sessions.keep
        try:
            message = self._whole(intake, dotless)
            notice = self._notice(message, intake.head) if self._refusals and self._client.may_relay else None
            kept = keep(message) if notice is None else keep(notice).addCallback(lambda _: keep(message))
        except Exception:
            return succeed(self._not_kept(Failure(), intake))
        return kept.addCallbacks(self._kept, self._not_kept, callbackArgs=(message,), errbackArgs=(intake,))

    def _whole(self, intake: Intake, dotless: bool) -> Message:
        zones = self._sessions.zones
        zone = zones.of(self._client, self.sender, intake.head) if zones else lambda address: ""
        return Message(
            id=self._message,
            envelope=Envelope(
                session=self._session,
                sender=self.sender,
                recipients=self._numbered(self.recipients.values(), zone),
                terms=self._terms(intake),
                may_relay=self._client.may_relay,
                vouched=self._vouched,
            ),
            received=round(time.time(), 3),
            size=intake.size,
            eightbit=intake.eightbit or self._binary,
            binary=self._binary,
            spooled=intake.spooled,
            octets=intake.octets,
            dotless=dotless,
        )

    def _notice(self, message: Message, head: bytes) -> Message | None:
        """For its sender: who is refused, of those that were promised to get it."""
        refused = self._numbered(one for one, _ in self._refusals)
        failed = [
            Ended(one, Failed(denial.reply.decode("ascii").rstrip()), "failed")
            for one, (_, denial) in zip(refused, self._refusals, strict=True)
            if one.wants("FAILURE")
        ]
        return self._sessions.tell(message, failed, head)

    def _numbered(
        self, recipients: Iterable[Accepted], zone: Callable[[str], str] = lambda address: ""
    ) -> tuple[Recipient, ...]:
        numbered = []
        for at, one in enumerate(recipients):
            notify, orcpt = self._reports.get(one.address, NO_REPORT)
            numbered.append(
                Recipient(
                    number=at, address=one.address, rule=one.rule, zone=zone(one.address), notify=notify, orcpt=orcpt
                )
            )
        return tuple(numbered)

    def _terms(self, intake: Intake) -> Terms:
        """REQUIRETLS goes before what the header says (RFC 8689 5)."""
        wishes = self._wishes
        if wishes is NO_WISHES and not intake.tls_optional and not self._utf8:
            return PLAIN
        addresses = (self.sender, *(one.address for one in self.recipients.values())) if self._utf8 else ()
        return Terms(
            smtputf8=self._utf8 and not (intake.head.isascii() and all(map(str.isascii, addresses))),
            requiretls=wishes.requiretls,
            tls_optional=intake.tls_optional and not wishes.requiretls,
            ret=wishes.ret,
            envid=wishes.envid,
            priority=wishes.priority,
            release=wishes.release,
        )

    def _kept(self, _: None, message: Message) -> bytes:
        self._sessions.admission.received(self.course.tally, message.size)
        self._log.info(
            "{session}: message {message} accepted from {sender}, {size} bytes, recipients: {recipients}",
            session=self._session,
            message=message.name,
            sender=message.envelope.sender or "<>",
            recipients=len(message.envelope.recipients),
            size=message.size,
            peer=self._client.address,
            **({"account": self._client.account} if self._client.account is not None else {}),
        )
        return b"250 2.0.0 Queued as %x\r\n" % message.id

    def _not_kept(self, failure: Failure, intake: Intake) -> bytes:
        intake.abandon()
        if failure.check(StoreError):
            reason = failure.getErrorMessage()
            self._log.error("{session}: a message could not be kept: {reason}", session=self._session, reason=reason)
        else:
            self._log.failure("{session}: a message could not be kept", failure, session=self._session)
        return FULL if failure.check(StoreFull) else _BROKEN
