"""An edge in this process, turned by hand, with routes made in code and backends that run in threads."""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from shutil import rmtree
from typing import Any, Protocol, TypeVar

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.actions import Action, Forward
from dcrouter.config.admin import Admin, Config
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Defaults, Route, RouteTls
from dcrouter.config.security import RouteSecurity
from dcrouter.config.targets import Target
from dcrouter.config.tls import CertificateFiles
from dcrouter.events import RequestDone, SessionClosed
from dcrouter.proxy.edge import Edge
from dcrouter.tls import credential
from dcrouter.tls.chooser import Chooser
from dcrouter.tls.internal import InternalCa
from tests.support.knock import knock
from tests.support.loop import HandTurned, Loop
from tests.support.threaded import Talk, Threaded

T = TypeVar("T")


class Cleaning(Protocol):
    """A test, or who stands for its class."""

    @property
    def addCleanup(self) -> Callable[..., object]: ...


class Backend(Threaded):
    """A server on loopback, closed when `test` ends."""

    def __init__(
        self,
        test: Cleaning,
        talk: Talk,
        *,
        family: int = socket.AF_INET,
        path: str = "",
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.bind(path if family == socket.AF_UNIX else (address, port))
        listener.listen(128)
        super().__init__(talk, listener)
        test.addCleanup(self.close)

    @property
    def target(self) -> Target:
        return Target(host="127.0.0.1", port=self.port)


def says(text: bytes) -> Talk:
    """A talk: answers the first bytes with `text` and ends."""

    def talk(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(text)

    return talk


def answers(body: bytes, *lines: bytes, seen: list[bytes] | None = None) -> Talk:
    """A talk: answers each request (of which it notes the head in `seen`) with 200 and `body`, and goes on."""
    head = b"".join(line + b"\r\n" for line in (b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *lines, b""))

    def talk(sock: socket.socket) -> None:
        data = b""
        while some := sock.recv(65536):
            data += some
            while b"\r\n\r\n" in data:
                request, _, data = data.partition(b"\r\n\r\n")
                if seen is not None:
                    seen.append(request)
                sock.sendall(head + body)

    return talk


def echo(sock: socket.socket) -> None:
    """A talk: gives back what comes, until the end."""
    while data := sock.recv(65536):
        sock.sendall(data)


def secured(talk: Talk, credential: Any, directory: Path, alpn: Sequence[str] = ()) -> Talk:
    """`talk` behind TLS with `credential`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (directory / "backend.pem").write_bytes(credential.chain + credential.key)
    context.load_cert_chain(directory / "backend.pem")
    if alpn:
        context.set_alpn_protocols(list(alpn))

    def wrapped(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as session:
            talk(session)

    return wrapped


def free_listener(address: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket on a port that the kernel picked, as the parent makes them (control/ports)."""
    listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    return listener


class EdgeTest(SynchronousTestCase):
    """`self.open(...)` starts an edge; `self.client(f)` runs a blocking client in a thread while the edge works."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())  # a short one: a unix socket's path has 107 bytes at most
        self.addCleanup(rmtree, self.directory)
        self.ca = InternalCa(self.directory, lambda: __import__("time").time())
        self.events: list[SessionClosed] = []
        self.requests: list[RequestDone] = []
        self.listeners: list[socket.socket] = []

    def port(self, address: str = "127.0.0.1", port: int = 0) -> int:
        """A port that the edge will listen on."""
        self.listeners.append(free_listener(address))
        return int(self.listeners[-1].getsockname()[1])

    def open(self, *routes: Route, observe: bool = True, ca_files: dict[str, bytes] | None = None, **keys: Any) -> Edge:
        """An edge with `routes` (and other keys of the configuration) on every port asked for so far."""
        config = Config(
            state_dir=self.directory,
            admin=Admin(socket=self.directory / "admin.sock"),
            listen=(ip_address("127.0.0.1"),),
            routes=routes,
            **keys,
        )
        chooser = self.chooser = Chooser(config.tls)
        names = {name for route in routes for name in route.match.domains or ()} | {"localhost"}
        choices = {choice for route in routes if (tls := route.tls) is not None for choice in _choices(tls)}
        own = [credential.read(one.cert, one.key) for one in choices if isinstance(one, CertificateFiles)]
        chooser.update([self.ca.issue(sorted(names)), *own])
        reactor: Any = HandTurned()
        self.edge = Edge(config, chooser, ca_files or {}, reactor, self._observed if observe else None)
        self.loop = Loop(self.edge.engine, reactor)
        for listener in self.listeners:
            self.edge.listen(listener)
        self.edge.start()
        self.addCleanup(self.edge.stop)
        return self.edge

    def _observed(self, event: SessionClosed | RequestDone) -> None:
        if isinstance(event, SessionClosed):
            self.events.append(event)
        else:
            self.requests.append(event)

    def client(self, run: Callable[[], T]) -> T:
        """What `run` gives or raises, in a thread, while the edge is turned."""
        results: queue.Queue[Callable[[], T]] = queue.Queue()

        def work() -> None:
            try:
                value = run()
            except BaseException as error:
                failure = error

                def fail() -> T:
                    raise failure

                results.put(fail)
            else:
                results.put(lambda: value)

        threading.Thread(target=work, daemon=True).start()
        self.loop.until(lambda: not results.empty())
        return results.get()()

    def request(self) -> RequestDone:
        """The next finished request."""
        self.loop.until(lambda: self.requests)
        return self.requests.pop(0)

    def event(self) -> SessionClosed:
        """The next finished connection."""
        self.loop.until(lambda: self.events)
        return self.events.pop(0)

    def ask(self, port: int, data: bytes, source: str = "127.0.0.1") -> bytes:
        """Everything that comes back on a plain connection that sends `data` (and does not end its side)."""
        return self.client(lambda: knock(port, data, source).data)

    def is_reset(self, port: int, data: bytes = b"", source: str = "127.0.0.1") -> bool:
        """Whether a connection is reset before a byte comes back."""

        def run() -> bool:
            try:
                with socket.create_connection(("127.0.0.1", port), 30, (source, 0)) as sock:
                    sock.sendall(data)
                    sock.recv(100)
            except (ConnectionResetError, BrokenPipeError):
                return True
            return False

        return self.client(run)

    def ask_tls(
        self, port: int, name: str | None, data: bytes, alpn: Sequence[str] = (), ca: Path | None = None
    ) -> bytes:
        """The same inside TLS, verified against `ca` (the internal one's) where there is a name."""
        context = ssl.create_default_context(cafile=str(ca or self.directory / "internal-ca" / "ca.pem"))
        if name is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(list(alpn))

        def run() -> bytes:
            with (
                socket.create_connection(("127.0.0.1", port), 30) as sock,
                context.wrap_socket(sock, server_hostname=name) as session,
            ):
                session.sendall(data)
                return read_all(session)

        return self.client(run)


def _choices(tls: RouteTls) -> tuple[object, ...]:
    return tls.certificate, tls.upstream.client_certificate


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the end; ConnectionResetError where that is a reset."""
    data = bytearray()
    while some := sock.recv(65536):
        data += some
    return bytes(data)


def read_anyhow(sock: socket.socket) -> bytes:
    """Everything up to the end, be it a reset: a close with unread bytes is one."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while some := sock.recv(65536):
            data += some
    return bytes(data)


_MATCH = ("domains", "client_ips", "listen", "alpn", "tls_versions", "path", "methods", "headers", "time")


def route(name: str, port: int, action: Action | Target, **keys: Any) -> Route:
    """A route on one port. A Target stands for a forward to it; what belongs to its match goes there."""
    match = {key: keys.pop(key) for key in _MATCH if key in keys}
    if isinstance(action, Target):
        action = Forward(targets=(action,))
    if "security" in keys and not isinstance(keys["security"], RouteSecurity):
        keys["security"] = RouteSecurity.of(keys["security"])
    tls = keys.pop("tls", None)
    if isinstance(tls, str):
        tls = RouteTls(mode=tls)  # type: ignore[arg-type]
    return Route(
        name=name, match=Match(ports=(PortRange(start=port, end=port),), **match), action=action, tls=tls, **keys
    )


__all__ = ["Backend", "Defaults", "EdgeTest", "answers", "echo", "evolve", "route", "says", "secured"]
