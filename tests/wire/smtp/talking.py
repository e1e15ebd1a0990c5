"""A client that talks to the server machine, and an operator who answers for it."""

from __future__ import annotations

from dcrouter.wire.smtp import events
from dcrouter.wire.smtp.server import Server

LIMITS = events.Limits(hostname="mx.example", max_size=1000, max_recipients=3, starttls=True)
MAIL = "MAIL FROM:<a@x.example>"
RCPT = "RCPT TO:<b@y.example>"
START = ("EHLO c.example", MAIL, RCPT)


class Session:
    """A client that writes lines, and an operator who accepts everyone but recipients at `no.example`."""

    def __init__(self, limits: events.Limits = LIMITS) -> None:
        self.machine = Server(limits)
        self.messages: list[bytes] = []
        self.senders: list[str] = []
        self._message = b""

    def send(self, data: bytes) -> bytes:
        """What the client gets for these bytes."""
        self.machine.receive(data)
        while (event := self.machine.next_event()) is not None:
            if isinstance(event, events.Mail):
                self.senders.append(event.sender.address)
                self.machine.answer(b"250 2.1.0 OK\r\n")
            elif isinstance(event, events.Recipient):
                good = not event.address.endswith("no.example")
                self.machine.answer(b"250 2.1.5 OK\r\n" if good else b"550 5.7.1 Relaying denied\r\n")
            elif isinstance(event, events.DataStart):
                self._message = b""
            elif isinstance(event, events.Data):
                self._message += event.octets
            elif isinstance(event, events.EndOfData):
                if event.flaw is None:
                    self.messages.append(self._message + event.octets)
                    self.machine.answer(b"250 2.0.0 Queued\r\n")
                else:
                    self.machine.answer(event.flaw + b"\r\n")
            elif isinstance(event, events.StartTls):
                self.machine.answer(b"220 2.0.0 Go\r\n")
        return self.machine.take_output()

    def lines(self, *lines: str) -> list[str]:
        """The last reply's first line for each line sent, one by one."""
        return [self.send(line.encode() + b"\r\n").decode().splitlines()[0] for line in lines]
