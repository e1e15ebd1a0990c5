"""A configuration on its way into a child that is at work: in pieces, so that no single one holds its loop up.

    incoming             {config, ca_files, order}   everything but routes; of certificates the ids
    incoming_routes      {routes}                    and so many of these three as it takes
    credentials          {credentials}               (control/credentials.py)
    incoming_listeners   {}, with sockets
    prepare              {id}                        make everything of it, in slices; answered
    commit               {id, unused}                use it, at once, and the listeners at `unused` no more; answered
    abandon              {}                          forget it

The parent's side is control/reload.py.
"""

from __future__ import annotations

import gc
import socket
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve

from dcrouter.config.admin import Config
from dcrouter.config.load import from_plain
from dcrouter.config.plain import route_from_plain
from dcrouter.config.routes import Route
from dcrouter.net.slices import Steps
from dcrouter.tls.chooser import Chooser, Shelf
from dcrouter.tls.credential import Credential


class Incoming:
    """What has come of it so far. `opened`: listening sockets, which are ours until they are taken.

    From its birth to `settled` nothing is collected: objects are made by the hundred thousand, none of them garbage,
    and one look at all of them would take longer than all slices.
    """

    def __init__(self, plain: Mapping[str, Any]) -> None:
        self.opened: list[socket.socket] = []
        self.ca_files = pem_files(plain)
        self.order: list[str] = plain["order"]
        self.config: Config | None = None
        self.chooser: Chooser | None = None
        self.shelf: Shelf | None = None
        self._plain: dict[str, Any] = plain["config"]
        self._routes: deque[dict[str, Any]] = deque()
        gc.disable()

    def add_routes(self, routes: Iterable[dict[str, Any]]) -> None:
        self._routes.extend(routes)

    def add_listeners(self, fds: Iterable[int]) -> None:
        self.opened += [socket.socket(fileno=fd) for fd in fds]

    def read(self, before: Config, chooser: Chooser, credentials: Sequence[Credential]) -> Steps[Config]:
        """The configuration, and in `shelf` its certificates, `credentials`, for `self.chooser`: the one that is in use
        where nothing but certificates is new to it.
        """
        base = from_plain(self._plain)
        yield
        routes: list[Route] = []
        while self._routes:
            routes.append(route_from_plain(self._routes.popleft()))
            yield
        config = self.config = evolve(base, routes=tuple(routes))
        self.chooser = chooser if same_tls(before, config) else chooser_of(config)
        self.shelf = yield from self.chooser.shelf(credentials)
        return config

    def take_opened(self) -> list[socket.socket]:
        """The sockets, which are the caller's from now on."""
        opened, self.opened = self.opened, []
        return opened

    def settled(self) -> None:
        """It is in use, or forgotten. What lives long from now on is not looked at by every collection (law 10)."""
        for sock in self.take_opened():
            sock.close()
        gc.freeze()
        gc.enable()


def pem_files(fields: Mapping[str, Any]) -> dict[str, bytes]:
    """path -> PEM of every authority and revocation list, as a message has them."""
    return {path: text.encode() for path, text in fields["ca_files"].items()}


def chooser_of(config: Config) -> Chooser:
    """One without certificates yet."""
    email = config.email
    return Chooser(
        config.tls,
        mail_name=email.hostname if email is not None else None,
        mail_choice=email.certificate if email is not None else "auto",
    )


def same_tls(one: Config, other: Config) -> bool:
    """Whether one Chooser can serve both."""
    return one.tls == other.tls and (one.email and one.email.certificate) == (other.email and other.email.certificate)
