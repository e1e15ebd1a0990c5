"""What a server knows of one SMTP session, and how it replies: what `Server` drives and the commands work on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dcrouter.wire.smtp import events
from dcrouter.wire.smtp.command import Sender
from dcrouter.wire.smtp.conduct import Conduct
from dcrouter.wire.smtp.data import Chunks, Unstuffer
from dcrouter.wire.smtp.events import Event, Limits
from dcrouter.wire.smtp.input import Input
from dcrouter.wire.smtp.parameters import Offers


class Chunk(NamedTuple):
    """What a BDAT command said: `size` octets, the `last` of the message or not; `refusal`: its answer already, they
    are thrown away.
    """

    size: int
    last: bool
    refusal: bytes | None = None


NO_CHUNK = Chunk(0, False)


class Session:
    """`helo`: the client's name, "" before it said one; `esmtp`: it said it with EHLO; `tls`: after the handshake;
    `authenticated`: after a 235.

    `asked`: the verb whose answer is awaited, TLS during the handshake. `sender`: of the transaction under way, which
    has so many `recipients`; `message`: what of it comes by DATA or BDAT, so far `size` octets. `taking`: what is done
    with the octets that come next, None where commands do; of `chunk`, what BDAT said last, so many are `left` to come
    (-1 in DATA: nobody knows). `challenged`: AUTH goes on, and the next line is a response.

    What replies to a command gives None for an event, so that a command can end with it.
    """

    def __init__(self, limits: Limits, *, tls: bool = False) -> None:
        self.helo = ""
        self.esmtp = False
        self.tls = tls
        self.authenticated = False
        self.closed = False
        self.last_words = ""
        self.draining = False
        self.limits = limits
        self.input = Input()
        self.output: list[bytes] = []
        self.asked: str | None = None
        self.sender: Sender | None = None
        self.recipients = 0
        self.message: Unstuffer | Chunks | None = None
        self.taking: Callable[[Session], Event | None] | None = None
        self.chunk = NO_CHUNK
        self.challenged = False
        self.size = 0
        self.left = 0
        self.conduct = Conduct()

    @property
    def offers(self) -> Offers:
        """What MAIL and RCPT may ask for."""
        return self.limits.offers_to_users if self.authenticated else self.limits.offers

    def close(self, reply: bytes) -> None:
        """The last reply (without its CRLF): whatever the client sends from now on is not read."""
        self.last_words = reply.decode("ascii")
        self.output.append(reply + b"\r\n")
        self.end()

    def end(self) -> None:
        """All has been said."""
        self.closed = True
        self.forget()
        self.taking = None
        self.challenged = False
        self.asked = None
        self.input.clear()

    def forget(self) -> None:
        """There is no transaction any more."""
        self.sender = None
        self.recipients = 0
        self.message = None

    def say(self, line: bytes) -> Event | None:
        self.output.append(line)
        return None

    def restart(self, line: bytes) -> Event | None:
        """A reply to a command that undoes the transaction, if there is one."""
        began, undone = self.sender is not None, self.recipients
        self.forget()
        self.idle_reply(line, undone)
        return events.Reset() if began else None

    def idle_reply(self, line: bytes, undone: int = 0) -> Event | None:
        """A reply to a command that gets nobody further."""
        self.output.append(line)
        return self._last(self.conduct.idle(undone))

    def error(self, line: bytes) -> Event | None:
        """A refusal, without its CRLF."""
        self.output.append(line + b"\r\n")
        return self._last(self.conduct.error())

    def leave(self, line: bytes) -> Event | None:
        """The last reply, without its CRLF."""
        self.close(line)
        return None

    def _last(self, words: bytes | None) -> Event | None:
        return self.leave(words) if words is not None else None
