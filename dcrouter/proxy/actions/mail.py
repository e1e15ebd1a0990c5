"""mail: the connection goes to the mail process as it is, with its facts; whoever takes the socket does the TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dcrouter.config.actions import MailKind
from dcrouter.errors import Refused

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session


class MailAction:
    def __init__(self, kind: MailKind) -> None:
        self._kind = kind

    async def run(self, session: Session) -> None:
        session.facts.kind = self._kind
        mail = session.edge.mail
        if mail.channel is None:
            reason = "the mail process is not there"
            raise Refused(reason, session.edge.refusal(session.listener, session.facts, reason))
        mail.take(session)
