"""Every port of the configuration, bound before anything is announced: all, or none and a line for each that failed.

1. All sockets are bound first and told to listen after that, so that nothing accepts while another port may still fail.
2. They are non-blocking and close-on-exec, with TCP_NODELAY, which accepted sockets inherit on Linux (tcp(7)).
   IPv4 and IPv6 on one port live side by side with IPV6_V6ONLY (ipv6(7)).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from attrs import frozen

from dcrouter.config.admin import Config
from dcrouter.config.effective import bind_addresses, effective_routes
from dcrouter.config.match import Address, PortRange
from dcrouter.config.routes import Route
from dcrouter.errors import StartError

BACKLOG = 4096
"""Connections that wait while the edge is busy or starts again; the kernel caps it at net.core.somaxconn (4096)."""
SHOWN = 20
"""Problems that are printed one by one; a range of ports can have thousands of them."""


@frozen(kw_only=True)
class Listener:
    """A listening socket, owned (and closed) by the parent; `routes`: the names of those that want it."""

    address: str
    port: int
    routes: tuple[str, ...]
    sock: socket.socket

    def __str__(self) -> str:
        return where(self.address, self.port)


def where(address: str, port: int) -> str:
    """`192.0.2.1:443` or `[2001:db8::1]:443`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def bind(config: Config) -> tuple[Listener, ...]:
    """Bind and listen on every (address, port) that a route wants, in that order; StartError names each that failed."""
    wishes = _Wishes(effective_routes(config), config.listen)
    listeners: list[Listener] = []
    missing: list[tuple[int, tuple[str, ...]]] = []
    problems: list[str] = []
    for address, port in bind_addresses(config):
        wanted_by = wishes.of(address, port)
        try:
            sock = _bound(address, port)
        except OSError as error:
            if _has_no_ipv6(error, address):
                missing.append((port, wanted_by))
            else:
                problems.append(_problem(error, address, port, wanted_by))
            continue
        listeners.append(Listener(address=str(address), port=port, routes=wanted_by, sock=sock))
    bound = {listener.port for listener in listeners}
    problems += [
        f"[::]:{port}{_for(names)}: this host has no IPv6, and `listen` names no other address"
        for port, names in missing
        if port not in bound and not problems
    ]
    for listener in listeners:
        try:
            listener.sock.listen(BACKLOG)
        except OSError as error:
            problems.append(_problem(error, ip_address(listener.address), listener.port, listener.routes))
    if problems:
        close(listeners)
        more = [f"and {len(problems) - SHOWN} more ports that cannot be bound"] if len(problems) > SHOWN else []
        raise StartError("\n".join(problems[:SHOWN] + more))
    return tuple(listeners)


def close(listeners: Iterable[Listener]) -> None:
    """Close them all; the kernel refuses new connections when the children have closed theirs too."""
    for listener in listeners:
        listener.sock.close()


def _bound(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(address), port))
    except OSError:
        sock.close()
        raise
    return sock


class _Wishes:
    """Which routes want an (address, port). Many routes share few doors, so the doors are asked, not the routes."""

    def __init__(self, routes: Iterable[Route], listen: Sequence[Address]) -> None:
        self._doors: dict[tuple[tuple[PortRange, ...], Sequence[Address]], list[str]] = {}
        for route in routes:
            self._doors.setdefault((route.match.ports, route.match.listen or listen), []).append(route.name)

    def of(self, address: Address, port: int) -> tuple[str, ...]:
        return tuple(
            name
            for (ports, addresses), names in self._doors.items()
            if any(given.start <= port <= given.end for given in ports) and _serves(address, addresses)
            for name in names
        )


def _serves(bound: Address, wanted: Sequence[Address]) -> bool:
    return any(bound == other or (bound.is_unspecified and bound.version == other.version) for other in wanted)


def _has_no_ipv6(error: OSError, address: Address) -> bool:
    return address.version == 6 and address.is_unspecified and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def _for(routes: Sequence[str]) -> str:
    if not routes:
        return ""
    names = ", ".join(routes[:5]) + (", ..." if len(routes) > 5 else "")
    return f" (route{'s' if len(routes) > 1 else ''} {names})"


def _problem(error: OSError, address: Address, port: int, routes: Sequence[str]) -> str:
    hint = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        hint = f"the port is taken: another program listens there: ss -ltnp 'sport = :{port}'"
    elif error.errno in (errno.EACCES, errno.EPERM) and port < 1024:
        hint = "not allowed: ports below 1024 need root or CAP_NET_BIND_SERVICE"
    elif error.errno == errno.EADDRNOTAVAIL:
        hint = "this host does not have that address: ip address"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        hint = "too many open files: raise the limit (ulimit -n, or LimitNOFILE= in the systemd unit)"
    return f"{where(str(address), port)}{_for(routes)}: {hint}"
