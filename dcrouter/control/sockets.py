"""The sockets that listen here: opened by us, or passed to us; wanted by the configuration, or by nobody."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from dcrouter.config.admin import Config
from dcrouter.control import ports
from dcrouter.control.ports import Bound, Listener
from dcrouter.errors import StartError


class Sockets:
    """`listeners`: those that the configuration wants. `spare`: those that were passed to us, and it does not."""

    def __init__(self) -> None:
        self.listeners: tuple[Listener, ...] = ()
        self.spare: dict[Bound, socket.socket] = {}
        self._inherited: frozenset[Bound] = frozenset()

    def open(self, config: Config) -> None:
        """All that it wants; StartError, and nothing is open. What is passed to us is spare until `settle`."""
        try:
            self.spare = ports.inherited(os.environ)
            self._inherited = frozenset(self.spare)
            self.listeners = ports.bind(config, self.spare)
        except StartError:
            self.close()
            raise

    def settle(self) -> None:
        """What the configuration wants is not spare."""
        for place in self.wanted():
            self.spare.pop(place, None)

    def wanted(self) -> dict[Bound, socket.socket]:
        return {(one.address, one.port): one.sock for one in self.listeners}

    def use(self, listeners: tuple[Listener, ...]) -> list[Listener]:
        """These are wanted from now on: those that are not any more, `close_unused` is next for them."""
        wanted = {id(listener.sock) for listener in listeners}
        unused = [listener for listener in self.listeners if id(listener.sock) not in wanted]
        self.listeners = listeners
        self.settle()
        return unused

    def close_unused(self, unused: Iterable[Listener]) -> None:
        """Close them, but for those that were passed to us: whoever did it has them open anyhow."""
        for listener in unused:
            place = (listener.address, listener.port)
            if place in self._inherited:
                self.spare[place] = listener.sock
            else:
                listener.sock.close()

    def close(self) -> None:
        """All of them."""
        for sock in (*self.spare.values(), *self.wanted().values()):
            sock.close()
        self.listeners = ()
        self.spare.clear()
