"""mail: the connection goes to the mail process as it is, with its facts; whoever takes the socket does the TLS.

Where the mail half is another service (`email.remote`), the bytes go there behind a PROXY header instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dcrouter.config.actions import MailKind
from dcrouter.errors import Refused, Unreachable
from dcrouter.proxy.actions.forward import ForwardAction

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


class MailRelayAction:
    """`forward` leads to the mail half."""

    def __init__(self, kind: MailKind, forward: ForwardAction) -> None:
        self._kind = kind
        self._forward = forward

    async def run(self, session: Session) -> None:
        session.facts.kind = self._kind
        try:
            await self._forward.run(session)
        except Unreachable as error:
            reply = session.edge.refusal(session.listener, session.facts, "the mail half is not there")
            raise Refused(str(error), reply) from error
