"""HTTP by hand, for tests: clients that say every byte, and targets that answer with every byte."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

from attrs import frozen

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_BODILESS = re.compile(rb"HTTP/1\.[01] (?:1..|204|304)")


class Ended(Exception):
    """The other side ended in the midst of a message, or before one; `data`: what there was of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(f"ended after {data[:200]!r}")
        self.data = data


@frozen
class Message:
    """`head` with its empty line, and `body` as on the wire (chunks and trailers included)."""

    head: bytes
    body: bytes

    @property
    def first(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def status(self) -> int:
        return int(self.first.split(b" ")[1])

    def get(self, name: bytes) -> bytes | None:
        """The value of a field, None where there is none."""
        found = re.search(rb"\r\n" + re.escape(name) + rb":[ \t]*([^\r\n]*)", self.head, re.IGNORECASE)
        return found[1] if found else None

    @property
    def content(self) -> bytes:
        """The body without chunks."""
        if not _CHUNKED.search(self.head):
            return self.body
        data, content = self.body, b""
        while True:
            size, _, data = data.partition(b"\r\n")
            length = int(size.partition(b";")[0], 16)
            if not length:
                return content
            content, data = content + data[:length], data[length + 2 :]


class Wire:
    """One side of a connection, messages after messages. `data`: what was read beyond the last one."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def message(self, *, to_head: bool = False) -> Message:
        """The next request or response; Ended where there is none. `to_head`: it answers a HEAD."""
        while b"\r\n\r\n" not in self.data:
            self._more()
        end = self.data.index(b"\r\n\r\n") + 4
        head, self.data = self.data[:end], self.data[end:]
        try:
            return Message(head, b"" if to_head else self._body(head))
        except Ended as error:
            raise Ended(head + error.data) from None

    def _body(self, head: bytes) -> bytes:
        if _BODILESS.match(head):
            return b""
        if _CHUNKED.search(head):
            return self._chunks()
        length = _LENGTH.search(head)
        if length is not None:
            return self._exactly(int(length[1]))
        if head.startswith(b"HTTP/"):
            return self.rest()
        return b""

    def _chunks(self) -> bytes:
        body = b""
        while True:
            line = self._line()
            body += line
            size = int(line.partition(b";")[0], 16)
            if not size:
                break
            body += self._exactly(size + 2)
        while (line := self._line()) != b"\r\n":
            body += line
        return body + line

    def _line(self) -> bytes:
        while b"\r\n" not in self.data:
            self._more()
        line, _, self.data = self.data.partition(b"\r\n")
        return line + b"\r\n"

    def _exactly(self, size: int) -> bytes:
        while len(self.data) < size:
            self._more()
        data, self.data = self.data[:size], self.data[size:]
        return data

    def rest(self) -> bytes:
        """Everything up to the end."""
        try:
            while True:
                self._more()
        except Ended as error:
            self.data = b""
            return error.data

    def _more(self) -> None:
        some = self.sock.recv(65536)
        if not some:
            raise Ended(self.data)
        self.data += some


def http(serve: Callable[[Wire], None]) -> Callable[[socket.socket], None]:
    """A talk of a Backend: `serve` has the connection as a Wire; when the client ends, so does it."""

    def talk(sock: socket.socket) -> None:
        try:
            serve(Wire(sock))
        except Ended:
            return

    return talk


def each(answer: Callable[[Message], bytes]) -> Callable[[socket.socket], None]:
    """A talk: every request gets what `answer` says."""

    def serve(wire: Wire) -> None:
        while True:
            wire.send(answer(wire.message()))

    return http(serve)


def always(response: bytes) -> Callable[[socket.socket], None]:
    """A talk: every request gets this response."""
    return each(lambda message: response)


def ok(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole response."""
    head = (b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines, b"", b"")
    return b"\r\n".join(head) + body


def request(
    *lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes = b"a.example", body: bytes = b"", close: bool = False
) -> bytes:
    """A whole request; `body` gets a Content-Length."""
    head = [first, b"Host: " + host, *lines]
    if body:
        head.append(b"Content-Length: %d" % len(body))
    if close:
        head.append(b"Connection: close")
    return b"\r\n".join([*head, b"", b""]) + body
