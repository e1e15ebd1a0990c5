"""What an SMTP session's machine asks for, and what is done about it: by `Admission`, `Login` and `Transaction`.

A `Conversation` knows no transport: who drives it feeds `machine`, calls `converse`, and writes what there is to write.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.errors import TlsError
from dcrouter.facts import ConnectionFacts
from dcrouter.mail.server import trace
from dcrouter.mail.server.admitted import Admitted
from dcrouter.mail.server.exchanges import Exchange, Verdict
from dcrouter.mail.server.login import BANNED
from dcrouter.mail.server.refusals import log_refusal
from dcrouter.mail.server.submission import refused_sender
from dcrouter.mail.server.tls import NO_TLS, TLS_READY
from dcrouter.mail.server.transaction import Transaction
from dcrouter.mail.server.users import User
from dcrouter.wire.smtp import events
from dcrouter.wire.smtp.server import Server

if TYPE_CHECKING:
    from dcrouter.mail.server.sessions import Sessions

_INTERNAL = b"451 4.3.0 Internal error, try again later\r\n"


class Conversation(ABC):
    """`client`: who it is; `user`: whom it has logged in as. `secured`: what Received tells of TLS, None in clear.
    `transaction`: the one that is under way; `exchange`: the login. `peer`: the address of who speaks, which may be a
    proxy that has said for whom; `name`: what it said of that client's name.
    """

    _log = Logger()

    def __init__(self, sessions: Sessions, facts: ConnectionFacts) -> None:
        self.facts = facts
        self.sessions = sessions
        self.client = sessions.client(facts)
        self.user: User | None = None
        self.secured: str | None = None
        self.transaction: Transaction | None = None
        self.exchange: Exchange | None = None
        self.peer = facts.peer[0]
        self.name: str | None = None
        self.machine = Server(sessions.limits(self.client, self.peer))
        self.machine.draining = sessions.draining

    @abstractmethod
    def answered(self, reply: bytes) -> None:
        """The answer to what the machine has asked, which came later, or at once while `converse` runs."""

    @abstractmethod
    def room(self) -> None:
        """The transaction has no backlog any more."""

    @abstractmethod
    def secure(self) -> None:
        """TLS comes next."""

    @abstractmethod
    def greeted(self) -> None:
        """A client has been greeted once more, from another address."""

    @abstractmethod
    def bindings(self) -> Mapping[str, bytes]:
        """What a login can be bound to of the TLS that the client speaks, type -> data."""

    def converse(self) -> None:
        """Does what the machine has to do now."""
        machine = self.machine
        while (event := machine.next_event()) is not None:
            _DUTIES[type(event)](self, event)

    def abandon(self, event: events.Reset | None = None) -> None:
        """The transaction is over, and nothing has come of it."""
        if self.transaction is not None:
            self.transaction.abandon()
            self.transaction = None

    def _auth(self, event: events.Auth) -> None:
        offered = self.machine.limits.auth
        begin = self.sessions.login.begin
        self.exchange = begin(event.mechanism, self.client, self.facts.session, self.bindings, offered)
        self._answer_later(self.exchange.receive(event.response).addCallback(self._logged_in))

    def _auth_response(self, event: events.AuthResponse) -> None:
        assert self.exchange is not None
        self._answer_later(self.exchange.receive(event.response).addCallback(self._logged_in))

    def _logged_in(self, verdict: Verdict) -> bytes:
        if verdict.user is not None:
            self.user = verdict.user
            self.client = evolve(self.client, account=verdict.user.name)
        if not verdict.reply.startswith(b"334"):
            self.exchange = None
        return verdict.reply

    def _introduced(self, event: events.XClient) -> None:
        """Everything that asks who the client is hears of this one from now on."""
        told, facts = event.told, self.facts
        facts.via = self.peer
        facts.peer = (told.address or facts.peer[0], facts.peer[1] if told.port is None else told.port)
        facts.local = (told.to_address or facts.local[0], facts.local[1] if told.to_port is None else told.to_port)
        self.name = told.name
        self.client = self.sessions.client(facts)
        self.user = None
        if told.login is not None:
            self.user = self.sessions.login.named(told.login)
            self.client = evolve(self.client, account=self.user.name)
        self.machine.introduce(self.sessions.limits(self.client, self.peer), told)
        banned = self.client.kind != "smtp" and self.sessions.banned(self.client)
        self.machine.answer(BANNED + b"\r\n" if banned else self.machine.greeting())
        self.greeted()

    def _mail(self, event: events.Mail) -> None:
        sender = event.sender
        course = self.sessions.admission.course(self.facts.session, sender)
        transaction = Transaction(self.sessions, self.facts.session, self.client, self.user, sender, course)
        transaction.helo = self.machine.helo
        self.transaction = transaction
        refusal = refused_sender(self.user, sender.address) if self.user is not None else None
        if refusal is not None:
            admitted = Admitted(refusal, why="the account may not send as it")
        else:
            admitted = self.sessions.admission.sender(self.client, sender, course.tally)
        if admitted.why:
            self._log_refusal(f"sender {sender.address}", admitted)
        self.machine.answer(admitted.reply)

    def _recipient(self, event: events.Recipient) -> None:
        transaction = self.transaction
        assert transaction is not None
        admitted = self.sessions.admission.recipient(self.client, transaction.course, event.address)
        if isinstance(admitted, Deferred):
            self._answer_later(admitted.addCallback(self._admitted, transaction, event))
        else:
            self.machine.answer(self._admitted(admitted, transaction, event))

    def _admitted(self, admitted: Admitted, transaction: Transaction, event: events.Recipient) -> bytes:
        for recipient in admitted.recipients:
            transaction.admit(recipient, event.report)
        if not admitted.recipients:
            self._log_refusal(event.address, admitted)
        return admitted.reply

    def _log_refusal(self, what: str, admitted: Admitted) -> None:
        log_refusal(self.facts.session, self.facts.peer[0], what, admitted.reply, admitted.why)

    def _data_start(self, event: events.DataStart) -> None:
        assert self.transaction is not None
        self.transaction.begin(self._received, self.room)

    def _received(self, name: str, only: str | None) -> bytes:
        return trace.received(
            self.facts,
            helo=self.machine.helo,
            esmtp=self.machine.esmtp,
            tls=self.secured,
            authenticated=self.user is not None,
            hostname=self.sessions.hostname,
            name=name,
            only=only,
            client=self.name,
            utf8=self.machine.sender is not None and self.machine.sender.utf8,
        )

    def _data(self, event: events.Data) -> None:
        assert self.transaction is not None
        self.transaction.add(event.octets)

    def _end_of_data(self, event: events.EndOfData) -> None:
        transaction, self.transaction = self.transaction, None
        assert transaction is not None
        if event.flaw is not None:
            transaction.abandon()
            self.machine.answer(event.flaw + b"\r\n")
            return
        answer = transaction.end(event.octets, event.dotless)
        if isinstance(answer, bytes):
            self.machine.answer(answer)
        else:
            self._answer_later(answer)

    def _answer_later(self, answer: Deferred[bytes]) -> None:
        answer.addCallbacks(self.answered, self._broken)
        answer.addErrback(lambda failure: self._log.failure("{session}", failure, session=self.facts.session))

    def _broken(self, failure: Failure) -> None:
        """An error of ours: the client shall come again, and not wait for an answer that never comes."""
        self._log.failure("{session}: no answer", failure, session=self.facts.session)
        self.answered(_INTERNAL)

    def _start_tls(self, event: events.StartTls) -> None:
        try:
            self.sessions.chooser.mail_context(None)
        except TlsError as error:
            self._log.error("{session}: {reason}", session=self.facts.session, reason=str(error))
            self.machine.answer(NO_TLS)
            return
        self.machine.answer(TLS_READY)
        self.abandon()
        self.secure()


_DUTIES: dict[type, Callable[[Conversation, Any], None]] = {
    events.Auth: Conversation._auth,
    events.AuthResponse: Conversation._auth_response,
    events.Mail: Conversation._mail,
    events.Recipient: Conversation._recipient,
    events.DataStart: Conversation._data_start,
    events.Data: Conversation._data,
    events.EndOfData: Conversation._end_of_data,
    events.StartTls: Conversation._start_tls,
    events.XClient: Conversation._introduced,
    events.Reset: Conversation.abandon,
}
