"""handler: the connection goes to the process of the handlers as it is, with its facts; TLS is ended there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dcrouter.errors import Refused, TimedOut

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session

AWAY = "the handlers process is not there"
FULL = "the handlers process does not take more"


class HandlerAction:
    """A process that is started again, or has much to do, is waited for as a target would be: timeouts.connect."""

    async def run(self, session: Session) -> None:
        handlers, route = session.edge.handlers, session.route
        assert route is not None
        if not handlers.ready:
            session.enter("connect", route.timeouts.connect)
            try:
                free = await handlers.free(session)
            except TimedOut as error:
                if error.phase != "connect":
                    raise
                raise Refused(AWAY if handlers.channel is None else FULL) from error
            if not free:
                session.end("client", "gone before the handlers process was free")
                return
        if route.terminates:
            session.wish(route)
        handlers.take(session)
