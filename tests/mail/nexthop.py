"""A next hop that says what a test wants: a real server on loopback, scripted per verb."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import TestCase

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
    def __init__(self, hop: ScriptedHop) -> None:
        self.hop = hop
        self.message: list[bytes] | None = None
        self.envelope: list[str] = []

    def connectionMade(self) -> None:
        self.hop.connections += 1
        self.hop.sessions.append(self)
        self.play("greeting", "")

    def connectionLost(self, reason: Any = None) -> None:
        self.hop.sessions.remove(self)

    def lineReceived(self, line: bytes) -> None:
        if self.message is not None:
            if line == b".":
                self.hop.messages.append((self.envelope, b"\r\n".join([*self.message, b""])))
                self.message = None
                self.play("final", "")
            else:
                self.message.append(line[1:] if line.startswith(b".") else line)
            return
        text = line.decode()
        self.hop.commands.append(text)
        verb = text.split(" ")[0]
        if verb == "MAIL":
            self.envelope = [text]
        elif verb == "RCPT":
            self.envelope.append(text)
        reply = self.play(verb, text)
        if verb == "DATA" and reply.startswith("354"):
            self.message = []
        if verb == "QUIT":
            self.transport.loseConnection()

    def play(self, verb: str, line: str) -> str:
        reply = self.hop.script.get(verb, "500 what")
        if callable(reply):
            reply = reply(line)
        if reply == CUT:
            self.transport.abortConnection()
        elif reply != SILENT:
            self.sendLine(reply.encode())
        return str(reply)


class ScriptedHop:
    """`messages`: [(envelope lines, content)], also those that were refused at their end; `commands`: all lines."""

    def __init__(self, case: TestCase, **script: Any) -> None:
        self.script: Script = {**GOOD, **script}
        self.messages: list[tuple[list[str], bytes]] = []
        self.commands: list[str] = []
        self.connections = 0
        self.sessions: list[_Session] = []
        factory = Factory()
        factory.noisy = False

        def build(_: Any) -> _Session:
            return _Session(self)

        factory.buildProtocol = build  # type: ignore[method-assign]
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port = self._port.getHost().port
        case.addCleanup(self.close)

    def close(self) -> Any:
        for session in list(self.sessions):
            session.transport.abortConnection()
        return self._port.stopListening()
