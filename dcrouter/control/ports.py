"""Every port of the configuration, bound before anything is announced: all, or none and a line for each that failed.

1. All sockets are bound first and told to listen after that, so that nothing accepts while another port may still fail.
2. They are non-blocking and close-on-exec, with TCP_NODELAY, which accepted sockets inherit on Linux (tcp(7)).
   IPv4 and IPv6 on one port live side by side with IPV6_V6ONLY (ipv6(7)).
3. What is bound already is not bound again: by the configuration before (a reload), or by whoever started us (socket
   activation, sd_listen_fds(3)), whose sockets are found by address and port.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from ipaddress import ip_address

from attrs import frozen

from dcrouter.config.admin import Config
from dcrouter.config.effective import bind_addresses, effective_routes
from dcrouter.config.match import Address, PortRange
from dcrouter.config.routes import Route
from dcrouter.errors import StartError, reason_of
from dcrouter.wire.hostport import hostport

BACKLOG = 4096
"""Connections that wait while the edge is busy or starts again; the kernel caps it at net.core.somaxconn (4096)."""
FIRST_INHERITED = 3
"""The descriptor of the first inherited socket (SD_LISTEN_FDS_START)."""
Bound = tuple[str, int]
"""(address, port)"""
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
        return hostport(self.address, self.port)


def bind(config: Config, have: Mapping[Bound, socket.socket] | None = None) -> tuple[Listener, ...]:
    """Bind and listen on every (address, port) that a route wants, in that order; StartError names each that failed.

    `have`: sockets that listen already, of which those that are wanted are used; all stay the caller's.
    """
    have = have or {}
    listeners = bind_only(config, have)
    listen(listeners, have)
    return listeners


def bind_only(config: Config, have: Mapping[Bound, socket.socket]) -> tuple[Listener, ...]:
    """The first half of `bind`: nobody can connect yet to what is new."""
    wishes = _Wishes(effective_routes(config), config.listen)
    listeners: list[Listener] = []
    opened: list[Listener] = []
    missing: list[tuple[int, tuple[str, ...]]] = []
    problems: list[str] = []
    for address, port in bind_addresses(config):
        wanted_by = wishes.of(address, port)
        if str(address) == "0.0.0.0" and _is_dual(have.get(("::", port))):
            continue
        try:
            there = have.get((str(address), port))
            sock = there or _bound(address, port, _in_the_way(address, port, have))
        except OSError as error:
            if _has_no_ipv6(error, address):
                missing.append((port, wanted_by))
            else:
                problems.append(_problem(error, address, port, wanted_by))
            continue
        listeners.append(Listener(address=str(address), port=port, routes=wanted_by, sock=sock))
        if there is None:
            opened.append(listeners[-1])
    bound = {listener.port for listener in listeners}
    problems += [
        f"[::]:{port}{_for(names)}: this host has no IPv6, and `listen` names no other address"
        for port, names in missing
        if port not in bound and not problems
    ]
    _refuse(problems, opened, have)
    return tuple(listeners)


def listen(listeners: Iterable[Listener], have: Mapping[Bound, socket.socket]) -> None:
    """The second half; StartError, with nothing left open of what is not among `have`."""
    problems: list[str] = []
    opened = opened_among(listeners, have)
    for listener in opened:
        try:
            listener.sock.listen(BACKLOG)
        except OSError as error:
            problems.append(_problem(error, ip_address(listener.address), listener.port, listener.routes))
    _refuse(problems, opened, have)
    _unshare(listener.sock for listener in opened)
    _unshare(have.values())


def open_one(address: str, port: int) -> socket.socket:
    """A socket that listens and that no route wants; OSError."""
    sock = _bound(ip_address(address), port)
    try:
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def problem_of(error: OSError, address: str, port: int) -> str:
    """Why that did not work, for the operator."""
    return _problem(error, ip_address(address), port, ())


def opened_among(listeners: Iterable[Listener], have: Mapping[Bound, socket.socket]) -> list[Listener]:
    """Those of `listeners` that are not among `have`."""
    kept = set(map(id, have.values()))
    return [listener for listener in listeners if id(listener.sock) not in kept]


def _refuse(problems: list[str], opened: Sequence[Listener], have: Mapping[Bound, socket.socket]) -> None:
    if problems:
        close(opened)
        _unshare(have.values())
        more = [f"and {len(problems) - SHOWN} more ports that cannot be bound"] if len(problems) > SHOWN else []
        raise StartError("\n".join(problems[:SHOWN] + more))


def _unshare(socks: Iterable[socket.socket]) -> None:
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def close(listeners: Iterable[Listener]) -> None:
    """Close them all; the kernel refuses new connections when the children have closed theirs too."""
    for listener in listeners:
        listener.sock.close()


def inherited(environment: MutableMapping[str, str], first: int = FIRST_INHERITED) -> dict[Bound, socket.socket]:
    """The listening sockets that whoever started us has bound for us (sd_listen_fds(3)), ours from now on.

    The variables that tell of them are removed: they are not meant for children. StartError where one is no TCP socket
    that listens.
    """
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    found: dict[Bound, socket.socket] = {}
    for fd in range(first, first + int(count)):
        try:
            sock = socket.socket(fileno=fd)
        except OSError as error:
            raise StartError(f"LISTEN_FDS={count}, but descriptor {fd} is no socket: {error.strerror}") from error
        if (
            sock.family not in (socket.AF_INET, socket.AF_INET6)
            or sock.type != socket.SOCK_STREAM
            or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        ):
            raise StartError(f"descriptor {fd}, which was passed to us, is no TCP socket that listens: ListenStream=")
        sock.set_inheritable(False)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address, port = sock.getsockname()[:2]
        found[address, port] = sock
    return found


def _is_dual(sock: socket.socket | None) -> bool:
    """Whether a socket bound to `::` takes IPv4 too (BindIPv6Only=both in a systemd.socket)."""
    return sock is not None and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def _in_the_way(address: Address, port: int, have: Mapping[Bound, socket.socket]) -> list[socket.socket]:
    """Of ours, those on the same port whose place overlaps: a wildcard and one of its addresses. While both are there,
    the kernel gives a connection to the more exact one.
    """
    return [
        sock
        for (other, number), sock in have.items()
        if number == port
        and ip_address(other).version == address.version
        and (address.is_unspecified or ip_address(other).is_unspecified)
    ]


def _bound(address: Address, port: int, beside: Iterable[socket.socket] = ()) -> socket.socket:
    """`beside`: sockets of ours that would be in its way. They are made to share the port until both listen: the
    kernel looks at the option when it binds and when it listens (socket(7), SO_REUSEPORT).
    """
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for one in (*beside, sock) if beside else ():
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
            if any(port in given for given in ports) and _serves(address, addresses)
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
    hint = reason_of(error)
    if error.errno == errno.EADDRINUSE:
        hint = f"the port is taken: another program listens there: ss -ltnp 'sport = :{port}'"
    elif error.errno in (errno.EACCES, errno.EPERM) and port < 1024:
        hint = "not allowed: ports below 1024 need root or CAP_NET_BIND_SERVICE"
    elif error.errno == errno.EADDRNOTAVAIL:
        hint = "this host does not have that address: ip address"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        hint = "too many open files: raise the limit (ulimit -n, or LimitNOFILE= in the systemd unit)"
    return f"{hostport(str(address), port)}{_for(routes)}: {hint}"
