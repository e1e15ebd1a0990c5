"""Where a connection of an http route begins to be one of HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dcrouter.proxy.http.connection import Connection

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session


class HttpConnections:
    """What an http route does with a connection: its requests are told apart."""

    async def run(self, session: Session) -> None:
        await Connection(session).serve()
