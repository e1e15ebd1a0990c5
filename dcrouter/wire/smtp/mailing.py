"""The commands of a transaction: MAIL, RCPT, DATA, RSET. RFC 5321 4.1.1.2 to 4.1.1.5; SIZE: RFC 1870 6.

Each takes the session and its argument, replies there, and gives what the caller must do, if anything.
"""

from __future__ import annotations

from dcrouter.wire.smtp import events, said
from dcrouter.wire.smtp.command import VERBS, parse_mail, parse_recipient
from dcrouter.wire.smtp.data import Unstuffer
from dcrouter.wire.smtp.events import Event
from dcrouter.wire.smtp.session import Session


def mail(session: Session, argument: str) -> Event | None:
    limits = session.limits
    if session.draining:
        return session.leave(said.CLOSING)
    if not session.helo or session.sender is not None:
        return session.error(said.BAD_SEQUENCE)
    if limits.tls_required and not session.tls:
        return session.error(said.TLS_FIRST)
    if limits.auth_required and not session.authenticated:
        return session.error(said.LOGIN_FIRST)
    sender = parse_mail(argument, session.offers, tls=session.tls, now=limits.now())
    if sender.size is not None and sender.size > limits.max_size:
        return session.error(said.TOO_BIG)
    session.sender = sender
    session.recipients = 0
    session.asked = "MAIL"
    return events.Mail(sender)


def rcpt(session: Session, argument: str) -> Event | None:
    if session.sender is None or session.message is not None:
        return session.error(said.BAD_SEQUENCE)
    address, report = parse_recipient(argument, session.offers, utf8=session.sender.utf8)
    if session.recipients >= session.limits.max_recipients:
        return session.say(said.TOO_MANY_RECIPIENTS)
    session.asked = "RCPT"
    return events.Recipient(address, report)


def data(session: Session, argument: str) -> Event | None:
    if session.sender is None:
        refusal = said.BAD_SEQUENCE
    elif argument:
        refusal = said.NO_ARGUMENT
    elif session.message is not None:
        refusal = said.DATA_AND_BDAT
    elif session.sender.binary:
        refusal = said.BINARY_BY_BDAT
    elif not session.recipients:
        refusal = said.NO_RECIPIENTS
    else:
        session.message = Unstuffer()
        session.taking = _take
        session.left = -1
        session.size = 0
        session.say(said.GO_AHEAD)
        return events.DataStart()
    if not session.input.empty and session.input.word() not in VERBS:
        # What was pipelined behind it is no next command (RFC 2920) but the message itself.
        return session.leave(said.NOT_WAITED)
    return session.error(refusal)


def _take(session: Session) -> Event | None:
    """What has come of a message in DATA."""
    incoming = session.message
    assert isinstance(incoming, Unstuffer)
    found, rest = incoming.receive(session.input.take())
    if rest:
        session.input.put_back(rest)
    session.size += len(found)
    too_big = session.size > session.limits.max_size
    if not incoming.ended:
        return events.Data(found) if found and not too_big else None
    session.taking = None
    session.asked = "DATA"
    if incoming.flaw is not None:
        session.conduct.error()
        return events.EndOfData(b"", said.FLAWS[incoming.flaw])
    return events.EndOfData(b"", said.TOO_BIG) if too_big else events.EndOfData(found, None, incoming.dotless)


def rset(session: Session, argument: str) -> Event | None:
    return session.error(said.NO_ARGUMENT) if argument else session.restart(said.OK)
