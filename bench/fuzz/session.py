"""The machines of SMTP as the fuzzer and Hypothesis drive them: bytes in pieces in, all that came of them out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from dcrouter.errors import WireError
from dcrouter.wire.smtp import events
from dcrouter.wire.smtp.client import Client, Credentials, Finished, Ready, SendBody, StartTls, Transaction
from dcrouter.wire.smtp.parameters import Offers
from dcrouter.wire.smtp.server import Server

_MAX_SIZE = 2000
_OFFERS = Offers(**dict.fromkeys(Offers.__annotations__, True))


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """In pieces of `size` octets."""
    return (data[at : at + size] for at in range(0, len(data), size))


def session(pieces: Iterable[bytes], *, tls: bool = False, strict: bool = False) -> tuple[bytes, list[bytes], bool]:
    """(replies, messages that were taken, whether it is over) of a session in these pieces; every second recipient is
    refused, STARTTLS is over at once, and nobody logs in.
    """
    machine = Server(
        events.Limits(
            hostname="mx.example",
            max_size=_MAX_SIZE,
            max_recipients=5,
            starttls=not tls,
            auth=("PLAIN", "LOGIN"),
            offers=_OFFERS,
            offers_to_users=_OFFERS,
            now=lambda: 1e9,
            strict=strict,
        ),
        tls=tls,
    )
    replies, messages, message, recipients = [machine.greeting()], [], b"", 0
    for piece in pieces:
        machine.receive(piece)
        while True:
            while (event := machine.next_event()) is not None:
                if isinstance(event, events.Mail):
                    machine.answer(b"250 2.1.0 OK\r\n")
                elif isinstance(event, events.Recipient):
                    recipients += 1
                    machine.answer(b"250 2.1.5 OK\r\n" if recipients % 2 else b"550 5.1.1 Nobody\r\n")
                elif isinstance(event, events.DataStart | events.Reset):
                    message = b""
                elif isinstance(event, events.Data):
                    message += event.octets
                    assert len(message) <= _MAX_SIZE
                elif isinstance(event, events.EndOfData):
                    if event.flaw is None:
                        messages.append(message + event.octets)
                    machine.answer((event.flaw or b"250 2.0.0 Queued") + b"\r\n")
                elif isinstance(event, events.Auth):
                    machine.answer(b"334 \r\n" if event.response is None else b"535 5.7.8 No\r\n")
                elif isinstance(event, events.AuthResponse):
                    machine.answer(b"535 5.7.8 No\r\n")
                else:
                    machine.answer(b"220 2.0.0 Go\r\n")
            if machine.asked != "TLS":
                break
            machine.tls_started()
        replies.append(machine.take_output())
    return b"".join(replies), messages, machine.closed


def sending(pieces: Iterable[bytes], flags: int) -> None:
    """Messages for a server that says this. `flags`: 1 wants STARTTLS, 2 speaks LMTP, 4 has binary messages, 8 logs in.

    Who answers before it was asked is no server that anything is promised to, but an answer for each recipient, once.
    """
    client = Client(
        "edge.example",
        lmtp=bool(flags & 2),
        tls="required" if flags & 1 else "none",
        credentials=Credentials(user="user", password="secret") if flags & 8 else None,
        encrypted=bool(flags & 8),
    )
    message = Transaction("a@x.example", ("b@y.example", "c@y.example"), 5, eightbit=False, binary=bool(flags & 4))
    begun = ended = 0

    def finished(event: Finished) -> None:
        nonlocal ended
        ended += 1
        assert len(event.replies) == len(message.recipients) and ended <= begun

    def begin() -> None:
        nonlocal begun
        while client.usable and begun < 3:
            begun += 1
            outcome = client.begin(message)
            if outcome is None:
                return
            finished(outcome)

    with suppress(WireError):
        for piece in pieces:
            for event in client.receive(piece):
                if isinstance(event, StartTls):
                    client.secured()
                elif isinstance(event, SendBody):
                    if client.phase == "body":
                        client.body_sent()
                elif isinstance(event, Finished):
                    finished(event)
                    begin()
                elif isinstance(event, Ready):
                    begin()
            said = client.take_output()
            assert said.endswith(b"\r\n") or not said, said
            assert len(client.answers()) <= len(message.recipients)
    if begun > ended and (outcome := client.lost()) is not None:
        finished(outcome)
