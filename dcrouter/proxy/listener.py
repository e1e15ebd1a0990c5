"""A listening socket in the edge: accepts a bounded number at a time, and pauses where descriptors run out."""

from __future__ import annotations

import os
import select
import socket
from _socket import socket as RawSocket
from collections.abc import Callable
from typing import TYPE_CHECKING

from dcrouter.config.routes import ProxyProtocol
from dcrouter.errors import EXHAUSTED
from dcrouter.match.addresses import Networks
from dcrouter.proxy.door import Door

if TYPE_CHECKING:
    from dcrouter.proxy.admission import Admission
    from dcrouter.proxy.edge import Edge
    from dcrouter.proxy.table import PortTable

ACCEPTS = 64
"""Connections taken per wake-up, so that those which are open already get their turn."""
LAST_TURNS = 16
"""So often ACCEPTS connections are taken of a port that is closed: the others are more than a moment's worth."""


class Introducers:
    """Peers that must begin with a PROXY header on one port, and how long they may take. `only`: nobody else may
    connect.
    """

    def __init__(self, entries: tuple[ProxyProtocol, ...], port: int) -> None:
        here = [entry for entry in entries if entry.ports is None or any(port in given for given in entry.ports)]
        self.only = any(entry.only for entry in here)
        self._entries = [(Networks(entry.from_), entry.timeout) for entry in here]

    def __bool__(self) -> bool:
        return bool(self._entries)

    def timeout(self, address: str) -> float | None:
        """Seconds for the header of a connection from `address`, or None: it must not be taken for one."""
        return next((timeout for networks, timeout in self._entries if networks.covers(address)), None)


class Listener:
    """One (address, port), as `bound`. `address` None: the wildcard, so each connection is asked for its own local
    address.

    `looks`: connections are asked or peeked at before they are served, which takes more than a descriptor. `responds`:
    no route is served here, but challenges of authorities (proxy/challenges.py).
    """

    def __init__(
        self,
        edge: Edge,
        sock: socket.socket,
        table: PortTable,
        admission: Admission,
        introducers: Introducers,
        *,
        responds: bool = False,
    ) -> None:
        self.edge = edge
        self.sock = sock
        self.family = sock.family
        address, self.port = sock.getsockname()[:2]
        self.bound = (address, self.port)
        self.address: str | None = None if address in ("0.0.0.0", "::") else address
        self.listening = False
        self.responds = responds
        self.serve(table, admission, introducers)

    def serve(self, table: PortTable, admission: Admission, introducers: Introducers) -> None:
        """Connections that come from now on find their route in `table`."""
        self.table = table
        self.admission = admission
        self.introducers = introducers if introducers else None
        self.door = Door(table, admission, introducers, self.edge.fallback)
        self.ask_local = self.address is None and (table.needs_local or table.mail or self.edge.observed)
        self.looks = bool(introducers) or self.ask_local or (table.only is None and table.terminates is None)
        # tcp(7): a client that has to speak first is accepted when it has, or after a second, when its time begins.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(table.client_first))

    def start(self) -> None:
        if not self.listening:
            self.edge.engine.listen(self.sock.fileno(), self.accept)
            self.listening = True

    def pause(self) -> None:
        """Let connections wait in the kernel's queue."""
        if self.listening:
            self.edge.engine.unlisten(self.sock.fileno())
            self.listening = False

    def close(self) -> None:
        self.pause()
        self.sock.close()

    def finish(self) -> None:
        """Take who has connected already, then close: they knocked while somebody lived here."""
        waiting = select.poll()
        waiting.register(self.sock, select.POLLIN)
        for _ in range(LAST_TURNS):
            if not self.listening or not waiting.poll(0):
                break
            self.accept()
        self.close()

    def accept(self) -> None:
        """Take what waits. Never raises (law 1): a client that has gone is skipped, exhaustion pauses every
        listener.
        """
        take = self.sock._accept  # type: ignore[attr-defined]  # (fd, address), without the layers of socket.accept
        for _ in range(ACCEPTS):
            if not self.listening:
                return
            try:
                fd, peer = take()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self.edge.exhausted(error)
                    return
                continue  # ECONNABORTED and the network errors of accept(2): that client is gone
            os.set_blocking(fd, False)
            self.edge.connected(self, RawSocket(self.family, socket.SOCK_STREAM, 0, fd) if self.looks else fd, peer)


class Listeners(list[Listener]):
    """Those of one edge."""

    def end(self, which: Callable[[Listener], bool] = lambda listener: True) -> None:
        """Those that have connected already are taken, then nobody any more."""
        for listener in list(filter(which, self)):
            listener.finish()
            self.remove(listener)
