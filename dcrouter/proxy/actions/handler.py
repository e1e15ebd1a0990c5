"""handler: the connection goes to the process of the handlers as it is, with its facts; TLS is ended there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dcrouter.errors import Refused, TimedOut

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session

AWAY = "the handlers process is not there"
FULL = "the handlers process does not take more"


class HandlerAction:
    """A process that is started again is waited for, as a target would be: timeouts.connect."""

    async def run(self, session: Session) -> None:
        handlers, route = session.edge.handlers, session.route
        assert route is not None
        if handlers.channel is None:
            session.enter("connect", route.timeouts.connect)
            try:
                there = await handlers.there(session)
            except TimedOut as error:
                if error.phase != "connect":
                    raise
                raise Refused(AWAY) from error
            if not there:
                session.end("client", "gone before the handlers process was there")
                return
        if not handlers.ready:
            raise Refused(FULL)
        if route.terminates:
            session.wish(route)
        handlers.take(session)
