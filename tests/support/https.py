"""Web servers of the world, in threads, for whole services, with certificates that have to be true."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import TestCase

from tests.support.certificates import Authority
from tests.support.exchanger import server_side

HTTPS = 443


class HttpsServer:
    """At `address`, port 443, for `names`, until the end of the test.

    `pages`: host and path, as `www.test/x` -> what is there, text/plain; `asked`: those that were. `posted`: (path,
    media type, body) of each POST; it is answered with `status`.
    """

    def __init__(self, case: TestCase, authority: Authority, names: Sequence[str], address: str) -> None:
        self.pages: dict[str, str] = {}
        self.asked: list[str] = []
        self.posted: list[tuple[str, str, bytes]] = []
        self.status = 201
        self._server = _Server((address, HTTPS), self._handler())
        self._server.socket = server_side(authority.credential(names)).wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._open = True
        case.addCleanup(self.close)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._server.shutdown()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 30

            def do_GET(self) -> None:
                at = f"{self.headers['host']}{self.path}"
                server.asked.append(at)
                page = server.pages.get(at)
                self.send_response(404 if page is None else 200)
                self.send_header("content-type", "text/plain")
                body = (page or "").encode()
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                server.posted.append((self.path, self.headers["content-type"], body))
                self.send_response(server.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is none of the test's business."""
