"""redirect, respond and block on http routes: answered here, and the connection goes on."""

from __future__ import annotations

from dcrouter.config.actions import Block, Redirect, Respond
from dcrouter.proxy.http.exchange import Exchange
from dcrouter.wire.http1.fields import field
from dcrouter.wire.http1.redirect import expand


class RedirectAnswer:
    """A `to` that cannot be filled in for a request is its 400 (see wire/http1/redirect)."""

    def __init__(self, action: Redirect) -> None:
        self._action = action

    async def answer(self, exchange: Exchange) -> None:
        location = expand(self._action.to, exchange.head, exchange.facts.local[1])
        await exchange.respond(self._action.status, b"", [("Location", location)])


class RespondAnswer:
    def __init__(self, action: Respond) -> None:
        self._status = action.status
        self._body = action.body.encode()
        self._lines = [field(name, text) for name, text in action.headers.items()]

    async def answer(self, exchange: Exchange) -> None:
        await exchange.respond_with(self._status, self._body, self._lines)


class BlockAnswer:
    def __init__(self, action: Block) -> None:
        self._status = action.status

    async def answer(self, exchange: Exchange) -> None:
        await exchange.respond_with(self._status, b"blocked\n", [])
