"""The server's side of an SMTP session, without a socket: bytes in, events and replies out.

How it is driven:

1. `greeting()` gives the bytes of the banner.
2. `receive(data)` takes bytes, in any pieces; then `next_event()` until it gives None. `Data` is the only event that
   carries message octets; they are the caller's.
3. Events that ask (`Mail`, `Recipient`, `EndOfData`, `Auth`, `AuthResponse`, `StartTls`) stop the machine until
   `answer(reply)`; after a 220 to `StartTls` it stands still until `tls_started()`. What the client pipelined behind
   them waits meanwhile; the caller stops reading, or it grows.
4. `take_output()` gives all replies that have gathered, in order, to be written at once. After `closed` is true there
   will be no more of them, and the connection ends once they are written.

Laws: replies in the order of the commands; nothing is read past STARTTLS, and whatever was pipelined behind it ends
the session; a client that does not wait where it must is sent away (`Limits.strict`); a second EHLO is a RSET; DATA is
read to its true end whatever is wrong with it, and the octets of a chunk of BDAT are never run as commands; AUTH is
neither offered nor taken in clear. RFC 5321, 1870, 2034, 2920, 3030, 3207, 4954, 6152.
"""

from __future__ import annotations

from collections.abc import Callable

from dcrouter.errors import WireError
from dcrouter.wire.smtp import chunking, hello, mailing, said
from dcrouter.wire.smtp.command import FOREIGN, KNOWN_ELSEWHERE, MAX_AUTH_LINE, MAX_COMMAND_LINE, parse_question
from dcrouter.wire.smtp.events import Event, Limits
from dcrouter.wire.smtp.session import Session
from dcrouter.wire.smtp.xclient import Introduced


class Server(Session):
    """One session, as it is driven from outside."""

    def greeting(self) -> bytes:
        return f"220 {self.limits.hostname} {self.limits.banner}\r\n".encode("ascii", "replace")

    @property
    def waiting(self) -> bool:
        """Whether an answer or the TLS handshake is awaited."""
        return self.asked is not None

    @property
    def idle(self) -> bool:
        """Whether no transaction is under way: the moment at which a draining server may close."""
        return self.sender is None

    @property
    def in_data(self) -> bool:
        """Whether message octets are what comes next, if only to be thrown away."""
        return self.taking is not None

    def receive(self, data: bytes) -> None:
        if not self.closed:
            self.input.add(data)

    def take_output(self) -> bytes:
        output = b"".join(self.output)
        self.output.clear()
        return output

    def next_event(self) -> Event | None:
        """The next thing the caller must do, or None: more bytes, an answer or the end are awaited."""
        while self.asked is None and not self.closed:
            if self.taking is not None:
                if self.left and self.input.empty:
                    return None
                event = self.taking(self)
            else:
                longest = MAX_AUTH_LINE if self.tls and self._auth_comes_next() else MAX_COMMAND_LINE
                line = self.input.line(longest)
                if line is None:
                    return None
                event = self._run(line, longest)
            if event is not None:
                return event
        return None

    def answer(self, reply: bytes) -> None:
        """The reply, CRLF included, to the event that asked. 421 ends the session."""
        asked, self.asked = self.asked, None
        accepted = reply.startswith(b"2")
        last: bytes | None = None
        if asked == "MAIL":
            if not accepted:
                self.forget()
        elif asked == "RCPT":
            if accepted:
                self.recipients += 1
            else:
                last = self.conduct.refused_recipient()
        elif asked == "DATA":
            self.forget()
            if accepted:
                self.conduct.message()
        elif asked == "AUTH":
            self.authenticated = accepted
            self.challenged = reply.startswith(b"334")
            if reply.startswith(b"501"):
                last = self.conduct.error()
            elif not (accepted or self.challenged):
                last = self.conduct.failed_login()
        elif asked == "STARTTLS":
            self.asked = "TLS" if accepted else None
        elif asked != "XCLIENT":
            raise RuntimeError("nothing was asked")
        self.output.append(reply)
        if reply.startswith(b"421"):
            self.last_words = reply.decode("ascii").rstrip()
            self.end()
        elif last is not None:
            self.close(last)

    def introduce(self, limits: Limits, told: Introduced) -> None:
        """The client is another than we thought: the session is as after its greeting, as far as the peer has not said
        what comes next.
        """
        self.limits = limits
        self.helo = told.helo or ""
        self.esmtp = bool(told.esmtp)
        self.authenticated = told.login is not None

    def tls_started(self) -> None:
        """The handshake is done: no state of the clear session survives (RFC 3207 4.2)."""
        self.tls = True
        self.helo = ""
        self.esmtp = False
        self.authenticated = False
        self.forget()
        self.challenged = False
        self.asked = None

    # ------------------------------------------------------------------ commands

    def _auth_comes_next(self) -> bool:
        """Whether a line of up to MAX_AUTH_LINE octets may come under TLS: RFC 4954 4 gives it to AUTH alone."""
        return self.challenged or self.input.begins_with(b"AUTH ")

    def _run(self, line: bytes, longest: int) -> Event | None:
        challenged, self.challenged = self.challenged, False
        if len(line) > longest:
            return self.error(said.LINE_TOO_LONG if longest == MAX_COMMAND_LINE else said.AUTH_LINE_TOO_LONG)
        if not line.endswith(b"\r"):
            return self.leave(said.LONE_LF)
        text = line[:-1].decode("utf-8", "replace")
        try:
            return hello.proceed(self, text) if challenged else self._obey(text)
        except WireError as error:
            return self.error(error.reply or said.SYNTAX)

    def _obey(self, line: str) -> Event | None:
        verb, _, argument = line.partition(" ")
        if "\r" in argument or "\0" in argument:
            return self.error(said.STRAY_IN_COMMAND)
        command = COMMANDS.get(verb) or COMMANDS.get(verb.upper() if verb.isascii() else "")
        if command is None:
            return self._unknown(verb.upper())
        if self.limits.strict and not self.input.empty and (not self.esmtp or command in _LAST) and not self._quits():
            return self.leave(said.NOT_PIPELINED)
        return command(self, argument.rstrip(" "))

    def _quits(self) -> bool:
        """Whether nothing but QUIT can come: whoever tries a server by hand sends it ahead, and gains nothing by it."""
        return self.input.begins_with(b"QUIT\r\n")

    def _unknown(self, verb: str) -> Event | None:
        if verb in FOREIGN:
            return self.leave(said.NOT_MAIL)
        return self.error(said.NOT_IMPLEMENTED if verb in KNOWN_ELSEWHERE else said.NOT_RECOGNIZED)


def _noop(session: Session, argument: str) -> Event | None:
    return session.idle_reply(said.OK)


def _vrfy(session: Session, argument: str) -> Event | None:
    if not argument:
        return session.error(said.NO_ADDRESS)
    parse_question(argument)
    return session.idle_reply(said.CANNOT_VERIFY)


def _help(session: Session, argument: str) -> Event | None:
    return session.idle_reply(said.HELP)


def _quit(session: Session, argument: str) -> Event | None:
    return session.error(said.NO_ARGUMENT) if argument else session.leave(said.BYE)


COMMANDS: dict[str, Callable[[Session, str], Event | None]] = {
    "EHLO": hello.ehlo,
    "HELO": hello.helo,
    "MAIL": mailing.mail,
    "RCPT": mailing.rcpt,
    "DATA": mailing.data,
    "BDAT": chunking.bdat,
    "RSET": mailing.rset,
    "NOOP": _noop,
    "VRFY": _vrfy,
    "HELP": _help,
    "QUIT": _quit,
    "STARTTLS": hello.starttls,
    "AUTH": hello.auth,
    "XCLIENT": hello.xclient,
}

_LAST = frozenset({hello.ehlo, hello.helo, hello.auth, mailing.data, _vrfy})
"""What must be the last of a group (RFC 2920 3.1), but STARTTLS, which has its own refusal, and what is harmless."""
