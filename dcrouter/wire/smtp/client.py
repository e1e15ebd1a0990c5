"""The client's side of an SMTP or LMTP session, without a socket: replies in, commands and results out.

How it is driven:

1. `receive(data)` takes what the server sends; it gives events in order. WireError: the peer does not speak SMTP; where
   it did before that, its events are given all the same, and `wrong` is set.
2. At `StartTls` the caller does the handshake, then says `secured()`.
3. After `Ready`, `begin(transaction)` starts one message, for as many recipients as the server takes at once. At
   `SendBody` the caller writes the message, stuffed, with its end mark, or in one chunk as it is, without one; then
   says `body_sent()`. Where `phase` is not `body` any more, it was refused in the same breath and is not wanted.
   `Finished` carries one reply per recipient; the next transaction may begin. A refusal within the message finishes it
   too: the connection has to be cut then, or it would end as a message. `Answered` comes before it where some have
   their reply and others wait for theirs.
4. `take_output()` gives the bytes to write now. `phase` says which reply is awaited, for the timeout.
5. `quit()` ends the session. After `Unusable`, or `Finished` with `usable` False, nothing more may be begun.

PIPELINING where the server offers it; BDAT for what is binary only, for DATA is as good for all else. An LMTP server
answers the end of the message once for each recipient that it took. RFC 5321 3, 4.1; RFC 2033; RFC 2920; RFC 3030. The
opening: `opening.py`; what is said of a message: `transaction.py`.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

from dcrouter.errors import WireError
from dcrouter.wire.smtp import opening
from dcrouter.wire.smtp.opening import Credentials, Opening, Ready, StartTls, Tls, Unusable
from dcrouter.wire.smtp.reply import Reply, ReplyReader
from dcrouter.wire.smtp.transaction import TOO_MANY, Transaction, limit, mail, rcpts
from dcrouter.wire.smtp.transaction import refusal as ruled_out

Phase = opening.Phase | Literal["rset", "mail", "rcpt", "data", "body", "final", "quit", "idle"]


class SendBody(NamedTuple):
    """It is wanted for at least one recipient: 354 was given, or it follows our BDAT in one chunk."""

    chunk: bool = False


class Finished(NamedTuple):
    """The transaction is over. `replies`: one per recipient, in order: the final one, or that which refused it."""

    replies: tuple[Reply, ...]
    usable: bool


class Answered(NamedTuple):
    """A recipient has its final reply, by LMTP, and others are still to have theirs: `answers` has those that came."""


Event = Ready | StartTls | SendBody | Unusable | Answered | Finished

__all__ = [
    "Answered",
    "Client",
    "Credentials",
    "Event",
    "Finished",
    "Phase",
    "Ready",
    "SendBody",
    "StartTls",
    "Tls",
    "Transaction",
    "Unusable",
]


class Client:
    """One session. `name`: what we call ourselves; `encrypted`: it begins inside of TLS. `replies`: how many awaited
    replies have come, whole. `wrong`: what was no reply, behind one that was; the session is over.
    """

    def __init__(
        self,
        name: str,
        *,
        lmtp: bool = False,
        tls: Tls = "none",
        encrypted: bool = False,
        credentials: Credentials | None = None,
    ) -> None:
        self.ready = False
        self.replies = 0
        self.wrong: WireError | None = None
        self._opening = Opening(name, lmtp=lmtp, tls=tls, encrypted=encrypted, credentials=credentials)
        self._lmtp = lmtp
        self._reader = ReplyReader()
        self._expected: deque[Phase] = deque()
        self._unsent: deque[tuple[Phase, bytes]] = deque()
        self._output: list[bytes] = []
        self._transaction: Transaction | None = None
        self._refusals: list[Reply | None] = []
        self._finals: list[Reply] = []
        self._answered = 0
        self._begun = 0
        self._asked = 0
        self._mail_refusal: Reply | None = None
        self._parting: Reply | None = None
        self._body_due = False
        self._dirty = False
        self._closing = False

    @property
    def extensions(self) -> dict[str, str]:
        """Keyword -> parameters, upper case, as EHLO gave them."""
        return self._opening.extensions

    @property
    def told(self) -> Literal["", "relayed", "delivered"]:
        """What a sender has to be told of whom the server takes: nothing where the server itself does (RFC 3461 5.2.1,
        5.2.2).
        """
        return "" if "DSN" in self.extensions else "delivered" if self._lmtp else "relayed"

    @property
    def phase(self) -> Phase:
        """What is awaited from the server: `body` is ours to send, `idle` is nothing."""
        if self._body_due:
            return "body"
        if self._expected:
            return self._expected[0]
        return "idle" if self.ready else self._opening.phase

    @property
    def usable(self) -> bool:
        """Whether a transaction may begin now."""
        if not self.ready or self._transaction is not None or self._closing:
            return False
        return "LIMITS" not in self.extensions or self._begun < limit(self.extensions, "MAILMAX")

    @property
    def answered(self) -> bool:
        """Whether the server has answered anything of the transaction that is under way."""
        return self._answered > 0

    def take_output(self) -> bytes:
        output = b"".join(self._output)
        self._output.clear()
        return output

    def begin(self, transaction: Transaction) -> Finished | None:
        """Starts a message; the result at once where the server's own announcements rule it out."""
        refusal = ruled_out(transaction, self.extensions, strict=not self._lmtp)
        if refusal is not None:
            return Finished((refusal,) * len(transaction.recipients), self.usable)
        self._transaction = transaction
        self._refusals = []
        self._finals = []
        self._mail_refusal = self._parting = None
        self._answered = 0
        self._begun += 1
        if self._dirty:
            self._dirty = False
            self._unsent.append(("rset", b"RSET\r\n"))
        self._unsent.append(("mail", mail(transaction, self.extensions)))
        lines = list(rcpts(transaction, self.extensions))
        if "LIMITS" in self.extensions:
            del lines[int(min(limit(self.extensions, "RCPTMAX"), len(lines))) :]
        self._asked = len(lines)
        self._unsent += [("rcpt", line) for line in lines]
        if not (transaction.question or transaction.binary):
            self._unsent.append(("data", b"DATA\r\n"))
        self._send()
        return None

    def body_sent(self) -> None:
        """The message and its end mark have been written (or have been given to be written)."""
        self._body_due = False
        for _ in range(self._refusals.count(None) if self._lmtp else 1):
            self._expected.append("final")

    def quit(self) -> None:
        """QUIT, once nothing is under way."""
        self._closing = True
        self._expected.append("quit")
        self._output.append(b"QUIT\r\n")

    def secured(self) -> None:
        """The TLS handshake that `StartTls` asked for is done, and the peer is whom it should be."""
        self._opening.secured()
        self._output += self._opening.output
        self._opening.output.clear()

    def receive(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        try:
            for reply in self._reader.each(data):
                event = self._take_next(reply) if self.ready else self._take_opening(reply)
                if event is not None:
                    events.append(event)
        except WireError as error:
            if not events or self._opening.phase == "tls":
                raise
            self.wrong = error
            self._closing = True
            return events
        if self._opening.phase == "tls" and self._reader.pending:
            raise WireError("octets behind the reply to STARTTLS")
        if self._unsent and not self._expected:
            self._send()
        return events

    def answers(self) -> tuple[Reply | None, ...]:
        """Of the transaction under way, what is known already of each recipient's fate."""
        finals = iter(self._finals)
        return tuple(refusal or next(finals, None) for refusal in self._refusals)

    def lost(self) -> Finished | None:
        """The connection is gone before the message: what it means where the server had refused the sender, or every
        recipient, for good, or said 421 as its last word (RFC 5321 3.8).
        """
        if self._transaction is None or self._body_due or "final" in self._expected:
            return None
        unanswered = len(self._transaction.recipients) - len(self._refusals)
        refusals = [self._mail_refusal] if self._mail_refusal is not None else [*self._refusals, *[None] * unanswered]
        if all(refusal is not None and refusal.code >= 500 for refusal in refusals):
            return self._finish(None)
        if self._parting is None:
            return None
        self._refusals += [self._parting] * unanswered
        return self._finish(self._parting)

    def _take_opening(self, reply: Reply) -> Event | None:
        if self._closing:
            return None
        if self._opening.phase == "tls":
            raise WireError("octets behind the reply to STARTTLS")  # in clear: anybody may have put them there
        self.replies += 1
        event = self._opening.take(reply)
        self._output += self._opening.output
        self._opening.output.clear()
        self.ready = isinstance(event, Ready)
        self._closing = isinstance(event, Unusable)
        return event

    def _take_next(self, reply: Reply) -> Event | None:
        if self._expected:
            self.replies += 1
            return self._take(self._expected.popleft(), reply)
        self._closing = True  # 421 out of the blue, or nonsense: either way not a session to reuse
        if self._body_due and reply.code >= 400:
            self._body_due = False
            self._output.clear()  # a chunk that was announced and not begun: the next command would be its octets
            return self._finish(reply)
        return None

    def _send(self) -> None:
        """All that may go now: everything with PIPELINING, one command without."""
        pipelining = "PIPELINING" in self.extensions
        while self._unsent:
            phase, command = self._unsent.popleft()
            self._output.append(command)
            self._expected.append(phase)
            if not pipelining:
                return

    def _take(self, phase: Phase, reply: Reply) -> Event | None:
        if reply.code == 421:
            self._closing = True
            self._parting = reply
        if phase in ("mail", "rcpt", "data", "final"):
            self._answered += 1
            return self._take_answer(phase, reply, 200 <= reply.code < 300)
        return None

    def _take_answer(self, phase: Phase, reply: Reply, good: bool) -> Event | None:
        assert self._transaction is not None
        if phase == "mail":
            if not good:
                self._mail_refusal = reply
                return self._stop_early()
        elif phase == "rcpt":
            self._refusals.append(self._mail_refusal or (None if good and not self._transaction.question else reply))
            if len(self._refusals) == self._asked:
                self._refusals += [TOO_MANY] * (len(self._transaction.recipients) - self._asked)
                if None not in self._refusals:
                    return self._stop_early()
                if self._transaction.binary:
                    self._output.append(b"BDAT %d LAST\r\n" % self._transaction.size)
                    self._body_due = True
                    return SendBody(chunk=True)
        elif phase == "data":
            return self._take_data(reply)
        else:
            return self._take_final(reply)
        return None

    def _take_final(self, reply: Reply) -> Event | None:
        self._dirty = self._transaction is not None and self._transaction.binary and reply.code >= 300  # RFC 3030 2
        self._finals.append(reply)
        return Answered() if "final" in self._expected else self._finish(reply)

    def _take_data(self, reply: Reply) -> Event | None:
        if reply.code == 354:
            if None in self._refusals:
                self._body_due = True
                return SendBody()
            # Only a server that forgot our refusals says so; RFC 2920 3.1 has us end an empty message.
            self._closing = True
            self._output.append(b".\r\n")
            if self._lmtp:
                return self._finish(None)  # there, nobody's end is answered for nobody
            self._expected.append("final")
            return None
        self._dirty = True
        if reply.code // 100 not in (4, 5):
            self._closing = True
            reply = Reply(code=451, lines=(f"4.5.0 Unexpected reply to DATA: {reply.text}",))
        return self._finish(reply)

    def _stop_early(self) -> Event | None:
        """Nobody is left to send to: what was pipelined is still answered, what was not sent is not sent."""
        if self._expected:
            return None
        self._unsent.clear()
        self._dirty = True
        return self._finish(None)

    def _finish(self, reply: Reply | None) -> Finished:
        """`reply`: for each recipient without one of its own."""
        assert self._transaction is not None
        count = len(self._transaction.recipients)
        if self._mail_refusal is not None:
            replies = (self._about_sender(self._mail_refusal),) * count
        else:
            own = self.answers() if self._lmtp else self._refusals
            replies = tuple(one for answer in own if (one := answer or reply) is not None)
        self._transaction = None
        return Finished(replies, self.usable)

    def _about_sender(self, refusal: Reply) -> Reply:
        """A refused MAIL says nothing of a recipient that was asked about; 421 is about the connection."""
        assert self._transaction is not None
        if not self._transaction.question or refusal.code == 421:
            return refusal
        return Reply(code=450, lines=(f"4.7.0 The question was refused: {refusal.text}",))
