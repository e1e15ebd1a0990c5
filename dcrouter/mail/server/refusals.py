"""What the log says of senders and recipients that were refused."""

from __future__ import annotations

from twisted.logger import Logger

_log = Logger()


def log_refusal(session: str, peer: str, what: str, reply: bytes, why: str) -> None:
    """One line: what was refused, how, and why."""
    _log.info(
        "{session}: {what} refused: {reply} ({why})",
        session=session,
        what=what,
        reply=reply.decode("ascii").rstrip(),
        why=why,
        peer=peer,
    )
