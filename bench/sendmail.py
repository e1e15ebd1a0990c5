"""Clients that send messages from files, and a flood that sends none: load makers of `bench.clients`."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import select
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

_TIMEOUT = 30.0
_V2 = b"\r\n\r\n\0\r\nQUIT\n"


def _talk(sock: socket.socket, stream: Any, lines: bytes, replies: int) -> None:
    sock.sendall(lines)
    for _ in range(replies):
        while (line := stream.readline())[3:4] == b"-":
            pass
        if line[:1] not in (b"2", b"3"):
            raise ConnectionError(f"answered {line[:120]!r}")


def letters(options: dict[str, Any]) -> dict[str, Any]:
    """`count` messages of the JSON lines in `file` ([sender, text]), in turn, on `sessions` connections at once, each
    from an address of its own; `reuse`: many on each.
    """
    texts = [json.loads(line) for line in Path(options["file"]).read_text().splitlines()]
    stuffed = [(sender, (text.replace("\r\n.", "\r\n..") + ".\r\n").encode()) for sender, text in texts]
    numbers = itertools.count()
    failed: list[str] = []

    def open_one(at: int) -> tuple[socket.socket, Any]:
        sock = socket.create_connection(("127.0.0.1", options["port"]), _TIMEOUT, (f"127.0.0.{2 + at % 200}", 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = sock.makefile("rb")
        _talk(sock, stream, b"", 1)
        _talk(sock, stream, f"EHLO c-127-0-0-{2 + at % 200}.clients.bench.test\r\n".encode(), 1)
        return sock, stream

    def run(at: int) -> None:
        sock: socket.socket | None = None
        stream: Any = None
        try:
            while (number := next(numbers)) < options["count"]:
                if sock is None:
                    sock, stream = open_one(at)
                sender, text = stuffed[number % len(stuffed)]
                head = f"MAIL FROM:<{sender}>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n".encode()
                _talk(sock, stream, head, 3)
                _talk(sock, stream, text, 1)
                if not options["reuse"]:
                    _talk(sock, stream, b"QUIT\r\n", 1)
                    sock.close()
                    sock = None
        except OSError as error:
            failed.append(str(error))
        finally:
            if sock is not None:
                sock.close()

    begin = time.monotonic()
    threads = [threading.Thread(target=run, args=(at,)) for at in range(options["sessions"])]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return {"seconds": time.monotonic() - begin, "failed": failed[:3]}


def _header(address: str, port: int) -> bytes:
    source, local = ipaddress.ip_address(address).packed, socket.inet_aton("127.0.0.1")
    return _V2 + b"\x21\x11" + struct.pack("!H4s4sHH", 12, source, local, 4711, port)


def flood(options: dict[str, Any]) -> None:
    """`count` connections from as many addresses, by PROXY headers; one half says nothing, the other nonsense. Says
    {"open", "closed"} when all were opened, keeps what is left, and ends with standard input.
    """
    kept: dict[int, socket.socket] = {}
    poll = select.epoll()
    gone = 0
    first = int(ipaddress.ip_address("10.0.0.0"))

    def ended(seconds: float) -> int:
        count = 0
        for fd, _ in poll.poll(seconds, 256):
            with contextlib.suppress(OSError):
                if kept[fd].recv(4096):
                    continue
            poll.unregister(fd)
            kept.pop(fd).close()
            count += 1
        return count

    begin = time.monotonic()
    for number in range(options["count"]):
        sock = socket.socket()
        sock.bind((options["source"], 0))
        sock.settimeout(_TIMEOUT)
        sock.connect(("127.0.0.1", options["port"]))
        sock.setblocking(False)
        garbage = b"\x16\x03\x01 what? \xff\xfe\r\n" if number % 2 else b""
        sock.send(_header(str(ipaddress.ip_address(first + number)), options["port"]) + garbage)
        kept[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN | select.EPOLLHUP)
        if number % 64 == 63:
            gone += ended(0)
            pause = begin + number / options["rate"] - time.monotonic()
            if pause > 0:
                time.sleep(pause)
    print(json.dumps({"open": len(kept), "closed": gone, "seconds": time.monotonic() - begin}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            ended(1.0)
