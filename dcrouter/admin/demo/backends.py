"""What stands behind the demo's routes: a web server, the same with TLS of its own, and a mail server, each a thread.

They answer one client after the other or several at once, wait PATIENCE for a silent one, and end with `close`.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from attrs import frozen

from dcrouter.admin.demo.place import HOST
from dcrouter.tls.credential import Credential

PATIENCE = 10.0
"""Seconds for a client to say something."""
MAX_LINE = 2048
MAX_MESSAGE = 1 << 20


class Backend(socketserver.ThreadingTCPServer):
    """A server on a port that the kernel picks, from now until `close`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__((HOST, 0), handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self.server_address[1]
        return port

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(PATIENCE)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is seen where it is missed: in the step that was waiting for it."""


class WebServer(Backend):
    """Answers every GET with who it is and what it was asked for."""

    def __init__(self) -> None:
        super().__init__(_WebRequests)

    def about(self, connection: socket.socket) -> str:
        return "the plain web server"


class SecureWebServer(WebServer):
    """The same behind TLS, with `credential`."""

    def __init__(self, credential: Credential, directory: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = directory / "backend.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(credential.key + credential.chain)
        self._context.load_cert_chain(pair)
        super().__init__()

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the client's own thread, so that a silent one keeps nobody waiting.
        request.settimeout(PATIENCE)
        with self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)
            with contextlib.suppress(OSError):
                secured.unwrap()

    def about(self, connection: socket.socket) -> str:
        version = connection.version() if isinstance(connection, ssl.SSLSocket) else None
        return f"the web server with TLS of its own ({version})"


class _WebRequests(BaseHTTPRequestHandler):
    timeout = PATIENCE
    wbufsize = -1  # head and body in one segment
    disable_nagle_algorithm = True
    server: WebServer

    def do_GET(self) -> None:
        host = self.headers.get("Host", "?")
        body = f"{self.server.about(self.connection)} answers {self.path} for {host}\n".encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The router's access log tells it better."""


@frozen
class Received:
    """A message that the mail server has taken."""

    sender: str
    recipient: str
    content: bytes


class MailServer(Backend):
    """The next hop: takes every message, and keeps it in memory."""

    def __init__(self) -> None:
        self._messages: list[Received] = []
        self._changed = threading.Condition()
        super().__init__(_MailSession)

    def take(self, message: Received) -> None:
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def wait_for(self, marker: bytes, timeout: float) -> Received | None:
        """The message that contains `marker`, or None where it has not come within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = next((message for message in self._messages if marker in message.content), None)
                left = deadline - time.monotonic()
                if found is not None or left <= 0:
                    return found
                self._changed.wait(left)


class _MailSession(socketserver.StreamRequestHandler):
    timeout = PATIENCE
    disable_nagle_algorithm = True
    server: MailServer

    def handle(self) -> None:
        sender = recipient = ""
        self._say("220 next-hop.example.test ESMTP")
        while line := self.rfile.readline(MAX_LINE):
            verb, _, rest = line.decode("ascii", "replace").strip().partition(" ")
            match verb.upper():
                case "EHLO" | "HELO":
                    self._say("250 next-hop.example.test")
                case "MAIL":
                    sender = _address(rest)
                    self._say("250 2.1.0 OK")
                case "RCPT":
                    recipient = _address(rest)
                    self._say("250 2.1.5 OK")
                case "DATA":
                    self._say("354 go on")
                    self.server.take(Received(sender, recipient, self._content()))
                    self._say("250 2.0.0 taken")
                case "RSET" | "NOOP":
                    self._say("250 2.0.0 OK")
                case "QUIT":
                    self._say("221 2.0.0 bye")
                    return
                case _:
                    self._say("502 5.5.1 not here")

    def _content(self) -> bytes:
        lines: list[bytes] = []
        size = 0
        while (line := self.rfile.readline(MAX_LINE)) != b".\r\n":
            size += len(line)
            if not line or size > MAX_MESSAGE:
                raise ConnectionError("a message without an end")
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode("ascii") + b"\r\n")


def _address(argument: str) -> str:
    return argument.partition("<")[2].partition(">")[0]
