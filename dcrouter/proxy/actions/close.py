"""block on tcp routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session


class CloseAction:
    """The connection ends before a byte is exchanged."""

    async def run(self, session: Session) -> None:
        session.end("router", "blocked")
