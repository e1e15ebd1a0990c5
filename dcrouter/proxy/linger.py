"""The end of a connection behind an answer: ours first, then time for the client to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dcrouter.net.engine import WAIT
from dcrouter.net.stream import Plain, Stream

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session

LINGER = 2.0
"""Seconds in which a client may read our answer while it still sends: a close with unread bytes would reset it away."""
LINGER_BYTES = 1 << 20


async def linger(session: Session, stream: Stream) -> None:
    """End our side, and read until the client ends its own or has had time enough to read the answer."""
    session.task.within(LINGER, "linger")
    stream.finish()
    plain = stream if isinstance(stream, Plain) else stream.plain
    if plain is not stream:
        plain.finish()
    left = LINGER_BYTES
    while left > 0:
        data = plain.recv()
        if data is None:
            await WAIT
        elif not data:
            return
        else:
            left -= len(data)
