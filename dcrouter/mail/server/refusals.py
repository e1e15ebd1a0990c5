"""What the log says of senders and recipients that were refused."""

from __future__ import annotations

from twisted.logger import Logger

from dcrouter.facts import ConnectionFacts
from dcrouter.mail.server.admission import Admitted

_log = Logger()


def log_refusal(facts: ConnectionFacts, what: str, admitted: Admitted) -> None:
    """One line: what was refused, how, and why."""
    _log.info(
        "{session}: {what} refused: {reply} ({why})",
        session=facts.session,
        what=what,
        reply=admitted.reply.decode("ascii").rstrip(),
        why=admitted.why,
        peer=facts.peer[0],
    )
