"""Mail exchangers of the world, in threads, for whole services: they say what a test wants, and count."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO
from unittest import TestCase

from attrs import define, field, frozen

from dcrouter.tls.credential import Credential
from tests.support.certificates import write

CUT = "cut"
"""Instead of a reply: the connection is reset."""
SMTP = 25
TIMEOUT = 60.0
_LINGER_NOT = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 s


@frozen(kw_only=True)
class Taken:
    """A message: from which address, said to be of whom, to whom, with TLS or not. `at`: monotonic seconds."""

    source: str
    name: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes
    tls: str | None
    at: float


@define(kw_only=True)
class Tally:
    """What any number of exchangers have seen together. `most`: sessions at once; `began`: when each MAIL came."""

    lock: threading.Lock = field(factory=threading.Lock)
    now: int = 0
    most: int = 0
    began: list[float] = field(factory=list)

    def enter(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def leave(self) -> None:
        with self.lock:
            self.now -= 1

    def most_within(self, seconds: float) -> int:
        """How many messages began in the fullest span of that length."""
        with self.lock:
            times = sorted(self.began)
        return max((sum(start <= one < start + seconds for one in times) for start in times), default=0)


Script = Callable[["Session", str], str]


@define(kw_only=True)
class Session:
    """One connection, as a script sees it: `number` counts those of the exchanger from 1."""

    source: str
    number: int
    name: str = ""
    tls: str | None = None
    sender: str = ""
    recipients: list[str] = field(factory=list)


class Exchanger:
    """At `address`, port 25, until the end of the test. `taken`: what was accepted, by whom it was sent.

    `tls`: its identity; STARTTLS is offered then. `said`: greeting, EHLO, MAIL, RCPT, DATA, final or STARTTLS -> a
    reply, CUT, or who gives one for a session and its line. `tally` may be shared with others.
    """

    def __init__(
        self,
        case: TestCase,
        address: str,
        *,
        tls: Credential | None = None,
        tally: Tally | None = None,
        port: int = SMTP,
        **said: str | Script,
    ) -> None:
        self.said: dict[str, str | Script] = dict(said)
        self.tally = tally or Tally()
        self.taken: list[Taken] = []
        self.sessions: list[Session] = []
        self.commands: list[str] = []
        self._tls = server_side(tls) if tls is not None else None
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._server = socket.create_server((address, port), family=family, backlog=1000)
        self.port: int = self._server.getsockname()[1]
        case.addCleanup(self.close)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def to(self, recipient: str) -> list[Taken]:
        """What has arrived for one address."""
        return [one for one in self.taken if recipient in one.recipients]

    def _accept(self) -> None:
        while True:
            try:
                sock, peer = self._server.accept()
            except OSError:
                return
            sock.settimeout(TIMEOUT)
            session = Session(source=peer[0], number=len(self.sessions) + 1)
            self.sessions.append(session)
            threading.Thread(target=self._serve, args=(sock, session), daemon=True).start()

    def _serve(self, sock: socket.socket, session: Session) -> None:
        self.tally.enter()
        ended = [False]

        def leave() -> None:
            if not ended[0]:
                ended[0] = True
                self.tally.leave()

        try:
            with suppress(OSError, EOFError), ExitStack() as held:
                self._talk(held.enter_context(sock), session, leave, held)
        finally:
            leave()

    def _talk(self, sock: socket.socket, session: Session, leave: Callable[[], None], held: ExitStack) -> None:
        stream = held.enter_context(sock.makefile("rb"))

        def meant(what: str, line: str, usual: str) -> str:
            answer = self.said.get(what, usual)
            return answer(session, line) if callable(answer) else answer

        def say(what: str, line: str, usual: str) -> str:
            return put(meant(what, line, usual), what)

        def put(reply: str, what: str) -> str:
            if reply == CUT:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
                raise EOFError
            if what == "QUIT":
                leave()  # the client may come again as soon as it reads this
            sock.sendall(reply.encode() + b"\r\n")
            return reply

        say("greeting", "", "220 far.test ESMTP")
        while raw := stream.readline():
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            self.commands.append(line)
            verb = line.partition(" ")[0].upper()
            if verb in ("EHLO", "HELO"):
                session.name = line[5:]
                more = "" if self._tls is None or session.tls else "250-STARTTLS\r\n"
                say(verb, line, f"250-far.test\r\n{more}250-PIPELINING\r\n250 8BITMIME")
            elif verb == "STARTTLS" and self._tls is not None:
                if say(verb, line, "220 2.0.0 go").startswith("220"):
                    sock = secured = held.enter_context(self._tls.wrap_socket(sock, server_side=True))
                    session.tls, stream = secured.version(), held.enter_context(secured.makefile("rb"))
            elif verb == "MAIL":
                with self.tally.lock:
                    self.tally.began.append(time.monotonic())
                session.sender, session.recipients = _address(line), []
                say(verb, line, "250 2.1.0 ok")
            elif verb == "RCPT":
                if say(verb, line, "250 2.1.5 ok").startswith("250"):
                    session.recipients.append(_address(line))
            elif verb == "DATA":
                usual = "354 go" if session.recipients else "554 5.5.1 nobody"
                if say(verb, line, usual).startswith("354"):
                    content = _content(stream)
                    reply = meant("final", "", "250 2.0.0 taken")
                    if reply.startswith("250"):  # before it is said, as a server that is durable does
                        self.taken.append(_taken(session, content))
                    put(reply, "final")
            else:
                say(verb, line, "221 2.0.0 bye" if verb == "QUIT" else "250 2.0.0 ok")
                if verb == "QUIT":
                    return


def _content(stream: BinaryIO) -> bytes:
    lines = []
    while (line := stream.readline()) != b".\r\n":
        if not line:
            raise EOFError
        lines.append(line.removeprefix(b"."))
    return b"".join(lines)


def _taken(session: Session, content: bytes) -> Taken:
    return Taken(
        source=session.source,
        name=session.name,
        sender=session.sender,
        recipients=tuple(session.recipients),
        content=content,
        tls=session.tls,
        at=time.monotonic(),
    )


def server_side(credential: Credential) -> ssl.SSLContext:
    """The context of a server with this identity."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as directory:
        files = write(credential, Path(directory), "site")
        context.load_cert_chain(files.cert, files.key)
    return context


def _address(line: str) -> str:
    return line.partition("<")[2].partition(">")[0]
