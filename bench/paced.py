"""Paced mail: one thread and one epoll, so that the load maker takes as little as it can of the cores it shares."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from pathlib import Path
from typing import Any

_LINE = b"0123456789abcdef" * 4 + b"\r\n"
_BODY = b"From: <sender@example.test>\r\nTo: <recipient@example.test>\r\nSubject: bench\r\n\r\n" + _LINE * 62 + b".\r\n"
Talk = tuple[tuple[bytes, bytes], ...]
"""How each reply begins, and what is said after it."""
_ACCEPTED = 5
"""The reply that takes the message."""
_TIMEOUT = 10.0
_AT_ONCE = 25
"""A mail port takes 50 connections from an address unless it is told otherwise, and hears of an end a moment later."""


def _talk(sender: str, body: bytes) -> Talk:
    return (
        (b"220", b"EHLO bench.example.test\r\n"),
        (b"250", f"MAIL FROM:<{sender}>\r\nRCPT TO:<recipient@example.test>\r\nDATA\r\n".encode()),
        (b"250", b""),
        (b"250", b""),
        (b"354", body),
        (b"250", b"QUIT\r\n"),
        (b"221", b""),
    )


def _talks(file: str | None) -> list[Talk]:
    """`file`: LETTERS of bench.signed, None: always the same message."""
    if file is None:
        return [_talk("sender@example.test", _BODY)]
    texts = [json.loads(line) for line in Path(file).read_text().splitlines()]
    return [_talk(sender, (text.replace("\r\n.", "\r\n..") + ".\r\n").encode()) for sender, text in texts]


class _Delivery:
    """One message on a connection of its own, as most mail comes. `step`: how many replies have been read."""

    def __init__(self, place: tuple[str, int], begun: float, talk: Talk) -> None:
        self.begun = begun
        self._talk = talk
        self.step = 0
        self.sock = socket.socket()
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(place)
        self._partial = b""

    def heard(self) -> bool:
        """Read what is there and say what is next; False at the end. ConnectionError where the answer is another."""
        try:
            data = self.sock.recv(4096)
        except BlockingIOError:
            return True
        *lines, self._partial = (self._partial + data).split(b"\r\n")
        for line in lines:
            if line[3:4] == b"-":
                continue
            expected, then = self._talk[self.step]
            if not line.startswith(expected):
                raise ConnectionError(f"answered {line[:60]!r}")
            self.step += 1
            if then:
                self.sock.sendall(then)
            if self.step == len(self._talk):
                return False
        if not data:
            raise ConnectionError("closed")
        return True


def mail(options: dict[str, Any]) -> dict[str, Any]:
    """`rate` messages of 4 KB a second, so that a slow server shows as a lower rate."""
    place = (options["host"], options["port"])
    talks = _talks(options.get("file"))
    total = int(options["seconds"] * options["rate"])
    latencies: list[float] = []
    errors = sent = 0
    poll = select.epoll()
    under_way: dict[int, _Delivery] = {}
    begin = time.monotonic()

    def over(one: _Delivery) -> None:
        nonlocal errors
        del under_way[one.sock.fileno()]
        one.sock.close()
        if one.step > _ACCEPTED:
            latencies.append(time.monotonic() - one.begun)
        else:
            errors += 1

    while sent < total or under_way:
        now = time.monotonic()
        due = begin + sent / options["rate"]
        if sent < total and due <= now and len(under_way) < _AT_ONCE:
            one = _Delivery(place, due, talks[sent % len(talks)])
            under_way[one.sock.fileno()] = one
            poll.register(one.sock, select.EPOLLIN)
            sent += 1
            continue
        wait = due - now if sent < total and len(under_way) < _AT_ONCE else 1.0
        for fd, _ in poll.poll(max(wait, 0.0)):
            one = under_way[fd]
            try:
                if not one.heard():
                    over(one)
            except OSError:
                over(one)
        for one in [one for one in under_way.values() if now - one.begun > _TIMEOUT]:
            over(one)
    seconds = time.monotonic() - begin
    return {"units": len(latencies), "errors": errors, "latencies": latencies, "seconds": seconds}
