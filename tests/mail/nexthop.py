"""A next hop that says what a test wants: a real server on loopback, scripted per verb."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import ITLSTransport
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import TestCase

from dcrouter.tls.credential import Credential
from tests.support.serving import Serving
from tests.support.trusted import ServerTls

CUT = "cut"
SILENT = "silent"
Script = dict[str, Any]
"""Verb (or `greeting`, `final`) -> a reply, CUT, SILENT, or a callable that takes the line and gives one of these."""

GOOD: Script = {
    "greeting": "220 next ESMTP",
    "EHLO": "250-next\r\n250-PIPELINING\r\n250 8BITMIME",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go",
    "RSET": "250 2.0.0 ok",
    "final": "250 2.0.0 taken",
    "QUIT": "221 bye",
}


class _Session(LineReceiver):
    MAX_LENGTH = 1 << 20
    transport: ITLSTransport

    def __init__(self, hop: ScriptedHop) -> None:
        self.hop = hop
        self.challenged = False
        self.accepted: list[str] = []
        self.message: list[bytes] | None = None
        self.envelope: list[str] = []
        self.chunk = b""
        self.left = 0

    def connectionMade(self) -> None:
        self.hop.connections += 1
        self.hop.sessions.append(self)
        if self.hop.implicit:
            self.start_tls()
        self.play("greeting", "")

    def connectionLost(self, reason: Any = None) -> None:
        self.hop.sessions.remove(self)

    def lineReceived(self, line: bytes) -> None:
        if self.message is not None:
            if line == b".":
                self.hop.messages.append((self.envelope, b"\r\n".join([*self.message, b""])))
                self.message = None
                for address in self.accepted if self.hop.lmtp else [""]:
                    self.play("final", address)
            else:
                self.message.append(line[1:] if line.startswith(b".") else line)
            return
        text = line.decode("utf-8", "replace")
        self.hop.commands.append(text)
        verb = "answer" if self.challenged else text.split(" ")[0]
        self.challenged = False
        if verb == "MAIL":
            self.envelope = [text]
            self.accepted = []
        elif verb == "RCPT":
            self.envelope.append(text)
        reply = self.hop.script.get(verb, "250 ") if verb == "BDAT" else self.play(verb, text)
        if verb == "RCPT" and reply.startswith("250"):
            self.accepted.append(text)
        self.challenged = reply.startswith("334")
        if verb == "STARTTLS" and reply.startswith("220"):
            self.start_tls()
        if verb == "BDAT" and reply.startswith("250"):
            self.chunk, self.left = b"", int(text.split()[1])
            self.setRawMode()
        if verb == "DATA" and reply.startswith("354"):
            self.message = []
        if verb == "QUIT":
            self.transport.loseConnection()

    def rawDataReceived(self, data: bytes) -> None:
        """The octets of a chunk, which is always the last."""
        self.chunk, rest = self.chunk + data[: self.left], data[self.left :]
        self.left -= len(data) - len(rest)
        if not self.left:
            self.hop.messages.append((self.envelope, self.chunk))
            for address in self.accepted if self.hop.lmtp else [""]:
                self.play("final", address)
            self.setLineMode(rest)

    def start_tls(self) -> None:
        assert self.hop.tls is not None
        self.transport.startTLS(ServerTls(self.hop.tls))
        self.hop.secured += 1

    def play(self, verb: str, line: str) -> str:
        reply = self.hop.script.get(verb, "500 what")
        if callable(reply):
            reply = reply(line)
        if reply == CUT:
            self.transport.abortConnection()
        elif reply != SILENT:
            self.sendLine(reply.encode())
        return str(reply)


class ScriptedHop(Serving):
    """`messages`: [(envelope lines, content)], also those that were refused at their end; `commands`: all lines.

    `tls`: its certificate; STARTTLS is offered then, unless `implicit`. `secured`: sessions that began TLS. `lmtp`: the
    end of a message is answered for each recipient that was taken, whose line `final` is called with.
    """

    def __init__(
        self,
        case: TestCase,
        *,
        tls: Credential | None = None,
        implicit: bool = False,
        lmtp: bool = False,
        address: str = "127.0.0.1",
        port: int = 0,
        **script: Any,
    ) -> None:
        self.script: Script = {**GOOD, **script}
        if tls is not None and not implicit and "EHLO" not in script:
            self.script["EHLO"] = self.hello
        self.script.setdefault("STARTTLS", "220 2.0.0 go")
        self.script.setdefault("LHLO", GOOD["EHLO"])
        self.tls = tls
        self.implicit = implicit
        self.lmtp = lmtp
        self.secured = 0
        self.messages: list[tuple[list[str], bytes]] = []
        self.commands: list[str] = []
        self.connections = 0
        super().__init__(case, lambda: _Session(self), address, port)

    def hello(self, line: str) -> str:
        """STARTTLS is offered in clear, AUTH in TLS."""
        more = "AUTH PLAIN LOGIN" if getattr(self.sessions[-1].transport, "TLS", False) else "STARTTLS"
        return f"{GOOD['EHLO']}\r\n250 {more}".replace("250 8BITMIME", "250-8BITMIME")
