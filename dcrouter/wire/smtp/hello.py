"""The commands by which a client says who it is, and those around them: EHLO, HELO, STARTTLS, AUTH.

Each takes the session and its argument, replies there, and gives what the caller must do, if anything. RFC 5321
4.1.1.1; RFC 3207 4; RFC 4954 4. AUTH is neither offered nor taken in clear.
"""

from __future__ import annotations

from dcrouter.wire.smtp import events, said
from dcrouter.wire.smtp.command import parse_auth, parse_greeting, parse_response
from dcrouter.wire.smtp.events import Event
from dcrouter.wire.smtp.reply import reply
from dcrouter.wire.smtp.session import Session
from dcrouter.wire.smtp.xclient import parse as parse_xclient


def ehlo(session: Session, argument: str) -> Event | None:
    session.helo = parse_greeting(argument)
    session.esmtp = True
    limits = session.limits
    keywords = limits.keywords(session.tls) + session.offers.keywords(tls=session.tls, now=limits.now())
    return session.restart(reply(250, f"{limits.hostname} greets {session.helo}", *keywords))


def helo(session: Session, argument: str) -> Event | None:
    session.helo = parse_greeting(argument)
    session.esmtp = False
    return session.restart(reply(250, session.limits.hostname))


def starttls(session: Session, argument: str) -> Event | None:
    if session.tls:
        return session.error(said.TLS_ACTIVE)
    if not session.limits.starttls:
        return session.error(said.NO_STARTTLS)
    if argument:
        return session.error(said.NO_ARGUMENT)
    if not session.esmtp:
        return session.error(said.EHLO_FIRST)
    if not session.input.empty:
        return session.leave(said.AFTER_STARTTLS)
    session.asked = "STARTTLS"
    return events.StartTls()


def xclient(session: Session, argument: str) -> Event | None:
    if not session.limits.xclient:
        return session.error(said.NOT_IMPLEMENTED)
    if session.sender is not None:
        return session.error(said.IN_TRANSACTION)
    told = parse_xclient(argument)
    session.asked = "XCLIENT"
    return events.XClient(told)


def auth(session: Session, argument: str) -> Event | None:
    limits = session.limits
    if not limits.auth:
        return session.error(said.NO_AUTH)
    if not session.esmtp:
        return session.error(said.EHLO_FIRST)
    if not session.tls:
        return session.error(said.TLS_FIRST if limits.tls_required else said.AUTH_IN_CLEAR)
    if session.authenticated:
        return session.error(said.AUTH_AGAIN)
    if session.sender is not None:
        return session.error(said.IN_TRANSACTION)
    mechanism, initial = parse_auth(argument)
    if mechanism not in limits.auth:
        return session.error(said.UNKNOWN_MECHANISM)
    session.asked = "AUTH"
    return events.Auth(mechanism, initial)


def proceed(session: Session, line: str) -> Event | None:
    """What the client says to a challenge."""
    response = parse_response(line)
    session.asked = "AUTH"
    return events.AuthResponse(response)
