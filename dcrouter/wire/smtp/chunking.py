"""The command BDAT: a message in chunks of a known length. RFC 3030.

Contract: exactly the octets that BDAT announces are taken for its chunk, whatever is wrong with it, so none of them is
ever run as a command; where nobody can tell how many they are, the session ends. A chunk is answered once it is here.
One that is refused ends the transaction: what a client has pipelined behind it gets 503 until it begins another.
"""

from __future__ import annotations

from dcrouter.wire.smtp import events, said
from dcrouter.wire.smtp.command import parse_chunk
from dcrouter.wire.smtp.data import Chunks
from dcrouter.wire.smtp.events import Event
from dcrouter.wire.smtp.session import Chunk, Session


def bdat(session: Session, argument: str) -> Event | None:
    found = parse_chunk(argument)
    if found is None:
        return session.leave(said.BAD_CHUNK)
    session.left, last = found
    refusal = _refusal(session, session.left)
    session.chunk = Chunk(session.left, last, refusal)
    if refusal is not None:
        began = session.sender is not None
        session.forget()
        session.taking = _discard
        return events.Reset() if began else None
    session.taking = _take
    if session.message is None:
        assert session.sender is not None
        session.message = Chunks(binary=session.sender.binary)
        session.size = 0
        return events.DataStart()
    return None


def _refusal(session: Session, octets: int) -> bytes | None:
    """The answer to a chunk that is of no use."""
    if session.sender is None:
        return said.BAD_SEQUENCE
    if not session.recipients:
        return said.NO_RECIPIENTS
    before = session.size if session.message is not None else 0
    return said.TOO_BIG if before + octets > session.limits.max_size else None


def _take(session: Session) -> Event | None:
    message, chunk = session.message, session.chunk
    assert isinstance(message, Chunks)
    piece = session.input.take_up_to(session.left)
    session.left -= len(piece)
    session.size += len(piece)
    octets = message.receive(piece)
    if session.left:
        return events.Data(octets) if octets else None
    session.taking = None
    if chunk.last:
        message.end()
    if message.flaw is not None:
        session.asked = "DATA"
        session.conduct.error()
        return events.EndOfData(b"", said.FLAWS[message.flaw])
    if chunk.last:
        session.asked = "DATA"
        return events.EndOfData(octets, None)
    if not chunk.size:
        return session.idle_reply(said.CHUNK % 0)
    session.say(said.CHUNK % chunk.size)
    return events.Data(octets) if octets else None


def _discard(session: Session) -> Event | None:
    session.left -= len(session.input.take_up_to(session.left))
    if session.left:
        return None
    session.taking = None
    assert session.chunk.refusal is not None
    return session.error(session.chunk.refusal)
