"""Every port of the configuration, bound before anything is announced: all, or none and a line for each that failed.

1. All sockets are bound first and told to listen after that, so that nothing accepts while another port may still fail.
2. They are non-blocking and close-on-exec, with TCP_NODELAY, which accepted sockets inherit on Linux (tcp(7)).
   IPv4 and IPv6 on one port live side by side with IPV6_V6ONLY (ipv6(7)).
3. A wildcard address serves the named addresses of its family and port as well: the kernel refuses both at once, and
   routes tell them apart by the address that the client connected to.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from attrs import frozen

from dcrouter.config.admin import Config
from dcrouter.config.effective import bind_addresses, effective_routes
from dcrouter.config.routes import Address, Route
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
    routes = effective_routes(config)
    listeners: list[Listener] = []
    missing: list[tuple[int, tuple[str, ...]]] = []
    problems: list[str] = []
    for address, port in without_covered(bind_addresses(config)):
        wanted_by = _wanted_by(routes, config.listen, address, port)
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


def without_covered(addresses: Sequence[tuple[Address, int]]) -> list[tuple[Address, int]]:
    """Without those whose port is bound on the wildcard of their family anyway, in the same order."""
    wildcards = {(address.version, port) for address, port in addresses if address.is_unspecified}
    return [
        (address, port)
        for address, port in addresses
        if address.is_unspecified or (address.version, port) not in wildcards
    ]


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


def _wanted_by(routes: Iterable[Route], listen: Sequence[Address], address: Address, port: int) -> tuple[str, ...]:
    return tuple(
        route.name
        for route in routes
        if route.enabled
        and any(ports.start <= port <= ports.end for ports in route.match.ports)
        and (address.is_unspecified or address in (route.match.listen or listen))
    )


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
