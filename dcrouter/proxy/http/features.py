"""The seams of the HTTP relay: how an action answers an exchange, and what stands before and behind it.

For each request, in this order:

1. `gates` of the route: may this request go on? A gate that says no has answered it (`exchange.respond`).
2. `request_edits`: what the target is asked for and told (`exchange.uri`, `exchange.fields`).
3. the action answers.
4. `response_edits`: whoever answers, a target, an action or a gate, they see the head of the response before the client
   does, and change its fields. Pages for errors are no exception.

All four are made when the route is bound; what a route does not use is an empty tuple there and costs a look at it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from dcrouter.wire.http1.fields import Fields

if TYPE_CHECKING:
    from dcrouter.proxy.http.exchange import Exchange


class HttpAction(Protocol):
    """What a route does with a request."""

    async def answer(self, exchange: Exchange) -> None:
        """Answer it, by `exchange.respond`, `exchange.begin` and what follows it, or by a target.

        WireError (the client's), TargetFailed, FileFailed, Unreachable and TimedOut become a page; an answer that has
        begun is broken off by them. Whatever else it raises ends the connection.
        """


class Gate(Protocol):
    """Lets requests through, or answers them."""

    async def admit(self, exchange: Exchange) -> bool:
        """False: it has answered, and nobody else will. It may change `exchange.fields` for the target."""


RequestEdit = Callable[["Exchange"], None]
"""Changes `exchange.uri` (the target of the request, as the target will see it) and `exchange.fields`."""

ResponseEdit = Callable[["Exchange", int, Fields], None]
"""(exchange, status, fields): changes the fields of the response. Never called for 1xx. Framing is not among them, but
Content-Length, which must be left alone."""


@frozen(kw_only=True)
class Features:
    """Those of one route."""

    gates: tuple[Gate, ...] = ()
    request_edits: tuple[RequestEdit, ...] = ()
    response_edits: tuple[ResponseEdit, ...] = ()


NO_FEATURES = Features()
