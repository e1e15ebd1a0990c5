"""A client that speaks SMTP by the octet, and the doors by which it can come in: kind of port, TLS, login.

    with open_door(router, Door(kind="submission", tls=True, account=True)) as talk:
        talk.say("MAIL FROM:<a@sender.test>")

The router must have ports of the names `smtp`, `submission` and `smtps`, and ACCOUNT.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from base64 import b64encode
from pathlib import Path
from typing import Protocol

from attrs import frozen

from tests.mail.server.accounts import HASHES
from tests.support.router import PATIENCE

HOSTNAME = "mail.example.test"
USER, PASSWORD = "alice@sender.test", "secret"
HASH = HASHES[PASSWORD]
ACCOUNT = f'{{name: {USER}, password_hash: "{HASH}", may_send_as: ["*@sender.test"]}}'.replace("$", "$$")
"""For `users` in the text of a Router."""


def plain(user: str = USER, password: str = PASSWORD, act_as: str = "") -> str:
    """AUTH PLAIN with its response."""
    return "AUTH PLAIN " + b64encode(f"{act_as}\0{user}\0{password}".encode()).decode()


@frozen(kw_only=True)
class Door:
    """A way in. `account`: logged in, which takes TLS."""

    kind: str
    tls: bool = False
    account: bool = False

    @property
    def sends(self) -> bool:
        """Whether MAIL is taken."""
        return self.kind == "smtp" or self.account


DOORS = (
    Door(kind="smtp"),
    Door(kind="smtp", tls=True),
    Door(kind="smtp", tls=True, account=True),
    Door(kind="submission"),
    Door(kind="submission", tls=True),
    Door(kind="submission", tls=True, account=True),
    Door(kind="smtps", tls=True),
    Door(kind="smtps", tls=True, account=True),
)
SENDING = tuple(door for door in DOORS if door.sends)


class Talk:
    """One connection. `source`: the address it comes from; `first`: what is sent before anything else."""

    def __init__(self, port: int, *, source: str = "127.0.0.1", first: bytes = b"") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self.sock.makefile("rb")
        self.send(first)

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        """All of it; a peer that has left is no error here, for its last words tell."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def reply(self) -> bytes:
        """The next reply, all its lines; b"" where the connection has ended."""
        lines = []
        with contextlib.suppress(ConnectionResetError, ssl.SSLError):
            while line := self._stream.readline():
                lines.append(line)
                if line[3:4] != b"-":
                    break
        return b"".join(lines)

    def say(self, line: str | bytes) -> bytes:
        """The reply to one line, which gets its CRLF here."""
        self.send((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.reply()

    def pipeline(self, *lines: str | bytes) -> list[bytes]:
        """The replies to lines that are sent at once."""
        self.send(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\r\n" for line in lines))
        return [self.reply() for _ in lines]

    def rest(self) -> list[bytes]:
        """All replies up to the end of the connection, which the peer must bring about."""
        replies = []
        while reply := self.reply():
            replies.append(reply)
        return replies

    def secure(self, ca: Path) -> None:
        """The handshake, with the peer's name verified."""
        context = ssl.create_default_context(cafile=str(ca))
        self.sock = context.wrap_socket(self.sock, server_hostname=HOSTNAME)
        self._stream = self.sock.makefile("rb")

    def begin(self, *recipients: str, sender: str = USER) -> None:
        """Up to the 354 of a message that must be taken so far."""
        lines = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in recipients), "DATA"]
        *taken, last = self.pipeline(*lines)
        assert all(one.startswith(b"250 ") for one in taken), taken
        assert last.startswith(b"354 "), last


class Doors(Protocol):
    """A Router, as far as clients know it."""

    @property
    def ports(self) -> dict[str, int]: ...
    @property
    def state(self) -> Path: ...


def open_door(router: Doors, door: Door, *, source: str = "127.0.0.1", login: bool = True) -> Talk:
    """Greeted, TLS'd, and, unless `login` is False, logged in where the door is for that; EHLO is said and answered."""
    ca = router.state / "internal-ca" / "ca.pem"
    talk = Talk(router.ports[door.kind], source=source)
    try:
        if door.kind == "smtps":
            talk.secure(ca)
        _expect(talk.reply(), b"220 ")
        if door.tls and door.kind != "smtps":
            _expect(talk.say("EHLO client.test"), b"250-")
            _expect(talk.say("STARTTLS"), b"220 ")
            talk.secure(ca)
        _expect(talk.say("EHLO client.test"), b"250-")
        if door.account and login:
            _expect(talk.say(plain()), b"235 ")
    except BaseException:
        talk.__exit__()
        raise
    return talk


def _expect(reply: bytes, begins: bytes) -> None:
    assert reply.startswith(begins), reply
