"""A connection to whichever of several addresses of one host answers first: "happy eyeballs", RFC 8305 section 5.

One address is tried after the other, the next one when the last has failed or has kept us waiting for DELAY; all that
have begun go on, and the first that is through wins. The others are closed.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import TypeVar

from dcrouter.errors import TimedOut, reason_of
from dcrouter.net.engine import ENDED, FAILED, OUT, WAIT, WATCH_BOTH, WATCH_READ, Task
from dcrouter.net.stream import Plain

DELAY = 0.25
"""Seconds; RFC 8305 section 8, Connection Attempt Delay."""

T = TypeVar("T")
Place = tuple[str, int] | str
"""A literal address with its port, or the path of a unix socket."""


async def race(
    task: Task,
    ones: Sequence[T],
    open_socket: Callable[[T], Plain],
    place: Callable[[T], Place],
    beside: Plain | None = None,
) -> tuple[Plain, T]:
    """The first connection that is made, and which of `ones` it leads to.

    `open_socket` gives a fresh socket for one of them, or raises OSError. OSError: none could be reached, its text
    says why not, each one; the task's deadline is that of all together. ConnectionAbortedError: as of
    `net.dial.connect`.
    """
    engine, phase, end = task.engine, task.phase, task.deadline
    left = list(ones)
    pending: list[tuple[Plain, T]] = []
    reasons: list[tuple[T, OSError]] = []
    next_at = engine.now
    try:
        while True:
            while left and (not pending or engine.now >= next_at):
                one = left.pop(0)
                try:
                    plain = open_socket(one)
                    pending.append((plain, one))
                    if _begin(plain, place(one)):
                        return pending.pop()
                except OSError as error:
                    reasons.append((one, error))
                    _drop(pending, one)
                else:
                    next_at = engine.now + DELAY
            for plain, one in list(pending):
                try:
                    if _is_through(plain):
                        pending.remove((plain, one))
                        return plain, one
                except OSError as error:
                    reasons.append((one, error))
                    _drop(pending, one)
                    next_at = engine.now
            if not pending and not left:
                raise _worst(reasons)
            if beside is not None and beside.ready & FAILED:
                raise ConnectionAbortedError(errno.ECONNABORTED, "gone before the target answered")
            if not left or next_at > engine.now:
                task.until(min(end, next_at) if left else end)
                try:
                    await WAIT
                except TimedOut as error:
                    if error.phase != phase or engine.now >= end:
                        raise
    finally:
        task.until(end)
        for plain, _ in pending:
            plain.close()


def _begin(plain: Plain, place: Place) -> bool:
    """Whether the connection is there at once."""
    error = plain.sock.connect_ex(place)
    if error == errno.EINPROGRESS:
        plain.watch(WATCH_BOTH)
        return False
    if error:
        raise OSError(error, os.strerror(error))
    plain.ready |= OUT
    plain.watch(WATCH_READ)
    return True


def _is_through(plain: Plain) -> bool:
    if not plain.ready & (OUT | ENDED):
        return False
    error = plain.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
    plain.ready |= OUT
    return True


def _drop(pending: list[tuple[Plain, T]], one: T) -> None:
    for entry in pending:
        if entry[1] is one:
            pending.remove(entry)
            entry[0].close()
            return


def _worst(reasons: list[tuple[T, OSError]]) -> OSError:
    """One error for all: the reasons, each once, in the order in which they came."""
    texts = dict.fromkeys(reason_of(error) for _, error in reasons)
    return OSError(reasons[0][1].errno, ", ".join(texts))
