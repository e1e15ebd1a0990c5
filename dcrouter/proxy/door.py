"""Who is turned away before there is a session: what can be known of a client at accept, and costs it nothing more.

A client that is blocked, or over a limit, is reset (SO_LINGER 0): it holds no descriptor, no memory and no port of ours
a moment longer. Clients of mail ports hear `421` first, in one send that does not wait (RFC 5321 section 3.8).
Whoever comes behind a PROXY header is looked at after it, by the session.
"""

from __future__ import annotations

import contextlib
import socket
from _socket import socket as RawSocket
from typing import TYPE_CHECKING

from dcrouter.config.security import Security
from dcrouter.proxy.admission import Admission
from dcrouter.proxy.state import Present
from dcrouter.wire.clienthello import MAX_HELLO

if TYPE_CHECKING:
    from dcrouter.proxy.bound import BoundRoute
    from dcrouter.proxy.listener import Introducers
    from dcrouter.proxy.table import PortTable

RESET = b"\x01\0\0\0\0\0\0\0"
"""SO_LINGER as socket(7) has it: on, for no time."""

NOT_INTRODUCED = "not introduced"
"""Who comes past the edges, where all come through them."""

MOST_ASKED = 8
"""Routes, or kinds of lists, that are asked about a client whose route is not known yet."""


class Door:
    """Of one listening socket. `guarded`: it may turn somebody away, so it must be asked."""

    def __init__(
        self, table: PortTable, admission: Admission, introducers: Introducers, fallback: BoundRoute | None
    ) -> None:
        self._introducers = introducers if introducers else None
        only = table.only
        known = [admission] if only is None else [admission, only.admission]
        self._known = [one for one in known if one.limited]
        self._possible = [] if only is not None else _possible(table, fallback)
        self.guarded = bool(self._known or self._possible or introducers.only)

    def refuses(self, address: str, entered: list[Admission]) -> str | None:
        """Why a connection from `address` is not let in, or None: then it is counted, by what is `entered` now."""
        if self._introducers is not None:
            if self._introducers.timeout(address) is not None:
                return None
            if self._introducers.only:
                return NOT_INTRODUCED
        refused = None
        for admission in self._possible:
            refused = admission.refusal(address)
            if refused is None:
                break
        if refused is not None:
            return refused
        for admission in self._known:
            refused = admission.enter(address)
            if refused is not None:
                for before in entered:
                    before.forgive(address)
                    before.leave(address)
                entered.clear()
                return refused
            entered.append(admission)
        return None


def _possible(table: PortTable, fallback: BoundRoute | None) -> list[Admission]:
    """Of everyone who may come to have a connection: whom they all refuse need not be heard. Of many routes only the
    lists are looked at. Empty: there is one that refuses nobody, or too many to ask.
    """
    routes = list(table.routes) if fallback is None else [*table.routes, fallback]
    if len(routes) <= MOST_ASKED:
        asked = [bound.admission for bound in routes]
    else:
        lists = {(bound.route.security.allow, bound.route.security.block) for bound in routes}
        if len(lists) > MOST_ASKED:
            return []
        asked = [Admission(Security(allow=allow, block=block), Present()) for allow, block in lists]
    return asked if all(one.limited for one in asked) else []


def turn_away(sock: RawSocket, reply: bytes | None) -> None:
    """Close `sock`: with `reply` as its last word, as far as it fits in now, else with a reset."""
    with contextlib.suppress(OSError):
        if reply is None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        else:
            with contextlib.suppress(BlockingIOError):
                sock.recv(MAX_HELLO)  # what is unread at the close resets the connection, and the reply is lost
            sock.send(reply)
    with contextlib.suppress(OSError):
        sock.close()
