"""A web application in Python, as many are: the standard library's server, which tells what it was asked."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class WebApp:
    """Listens on `port`. Every request is answered with its method, path and the number of octets in its body.

    `asked`: `GET /path` of each, as they came.
    """

    def __init__(self) -> None:
        asked = self.asked = []  # type: list[str]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                asked.append(f"{self.command} {self.path}")
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    size = self.chunks()
                else:
                    size = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                body = f"{self.command} {self.path} {size}\n".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def chunks(self) -> int:
                total = 0
                while size := int(self.rfile.readline().partition(b";")[0], 16):
                    self.rfile.read(size + 2)
                    total += size
                while self.rfile.readline() not in (b"\r\n", b"\n", b""):
                    pass
                return total

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
