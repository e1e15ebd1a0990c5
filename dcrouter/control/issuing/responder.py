"""The port that http-01 needs where no route listens on it: opened by the parent, served by the edge.

It is open as long as challenges may come, and gives 404 to everybody else. One that cannot be opened is no reason not
to start: it is told, tried again when a name needs it, and is what is wrong with that name then.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from twisted.logger import Logger

from dcrouter.config.admin import Config
from dcrouter.control import ports
from dcrouter.control.ports import Bound, Listener
from dcrouter.wire.hostport import hostport


class Responder:
    """`sockets`: (address, port) -> one that listens; ours until `give` or `close`. `problem`: why there is none."""

    log = Logger()

    def __init__(self, port: int) -> None:
        self.port = port
        self.sockets: dict[Bound, socket.socket] = {}
        self.problem: str | None = None

    def use(self, config: Config, listeners: Iterable[Listener], spare: Mapping[Bound, socket.socket]) -> bool:
        """Open what this configuration needs beside its listeners, and close what it does not; whether anything is
        others than before. `spare`: what listens already and nobody wants.
        """
        acme = config.certificates.acme
        taken = {listener.port for listener in listeners}
        before = set(self.sockets)
        if acme is None or "http-01" not in acme.challenges or self.port in taken:
            self.close()
            self.problem = None
            return bool(before)
        wanted = {(str(address), self.port) for address in config.listen}
        for place in before - wanted:
            self.sockets.pop(place).close()
        problems = [problem for place in sorted(wanted) if (problem := self._open(place, spare)) is not None]
        problem = "; ".join(problems) if problems and not self.sockets else None
        if problem is not None and problem != self.problem:
            self.log.warn("http-01 has no port: {problem}", problem=problem)
        self.problem = problem
        for place in sorted(set(self.sockets) - before):
            self.log.info("listening on {place} for http-01", place=hostport(*place))
        return set(self.sockets) != before

    def close(self) -> None:
        """Close all of them."""
        for sock in self.sockets.values():
            sock.close()
        self.sockets.clear()

    def _open(self, place: Bound, spare: Mapping[Bound, socket.socket]) -> str | None:
        if place in self.sockets:
            return None
        try:
            self.sockets[place] = spare[place].dup() if place in spare else ports.open_one(*place)
        except OSError as error:
            return ports.problem_of(error, *place)
        return None
