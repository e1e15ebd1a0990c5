from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.actions import Respond
from dcrouter.config.admin import Admin, Config
from dcrouter.config.match import Address, Match, PortRange
from dcrouter.config.routes import Route
from dcrouter.control import ports
from dcrouter.control.ports import Listener
from dcrouter.errors import StartError
from tests.support.ports import reserved

LOOPBACK: tuple[Address, ...] = (IPv4Address("127.0.0.1"),)


def route(name: str, port: int, *listen: str) -> Route:
    addresses = tuple(ip_address(address) for address in listen) or None
    return Route(name=name, match=Match(ports=(PortRange(start=port, end=port),), listen=addresses), action=Respond())


def config(*routes: Route, listen: tuple[Address, ...] = LOOPBACK) -> Config:
    return Config(state_dir=Path("/nowhere"), admin=Admin(socket=Path("/nowhere/s")), routes=routes, listen=listen)


class TestBind(SynchronousTestCase):
    def bind(self, wanted: Config) -> tuple[Listener, ...]:
        listeners = ports.bind(wanted)
        self.addCleanup(ports.close, listeners)
        return listeners

    def refused(self, wanted: Config) -> list[str]:
        with self.assertRaises(StartError) as caught:
            ports.bind(wanted)
        return str(caught.exception).splitlines()

    def test_every_port_listens_ready_for_the_edge(self) -> None:
        """Non-blocking, close-on-exec, without Nagle, and named after the routes that want it."""
        port = reserved(self)
        (listener,) = self.bind(config(route("a", port), route("b", port)))
        self.assertEqual((listener.address, listener.port, listener.routes), ("127.0.0.1", port, ("a", "b")))
        self.assertFalse(listener.sock.getblocking())
        self.assertFalse(os.get_inheritable(listener.sock.fileno()))
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listener.sock.accept()
            with accepted:
                self.assertTrue(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def test_both_families_live_on_one_port(self) -> None:
        """0.0.0.0 and :: side by side; where the host has no IPv6 only the first."""
        port = reserved(self)
        listeners = self.bind(config(route("a", port), listen=(IPv4Address("0.0.0.0"), IPv6Address("::"))))
        self.assertEqual(
            [listener.address for listener in listeners], ["0.0.0.0", "::"] if _has_ipv6() else ["0.0.0.0"]
        )

    def test_each_taken_port_is_one_clear_line_and_nothing_stays_bound(self) -> None:
        """All problems at once, with the routes and what to do; the ports that were free are free again."""
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            taken = sorted((one.getsockname()[1], two.getsockname()[1]))
            free = reserved(self)
            lines = self.refused(config(route("x", taken[0]), route("y", taken[1]), route("z", free)))
        self.assertEqual(
            lines,
            [
                f"127.0.0.1:{port} (route {name}): the port is taken: another program listens there: "
                f"ss -ltnp 'sport = :{port}'"
                for port, name in zip(taken, "xy", strict=True)
            ],
        )
        with socket.create_server(("127.0.0.1", free)):
            pass

    def test_an_address_that_the_host_does_not_have_is_told(self) -> None:
        """A listen address of another machine."""
        (line,) = self.refused(config(route("x", reserved(self), "192.0.2.1")))
        self.assertIn("this host does not have that address", line)

    def test_a_range_with_many_problems_is_cut_short(self) -> None:
        """Nobody reads a thousand lines."""
        match = Match(ports=(PortRange(start=20000, end=20099),), listen=(IPv4Address("192.0.2.1"),))
        lines = self.refused(config(Route(name="wide", match=match, action=Respond())))
        self.assertEqual(len(lines), ports.SHOWN + 1)
        self.assertEqual(lines[-1], "and 80 more ports that cannot be bound")

    def test_a_low_port_without_the_right_says_what_is_missing(self) -> None:
        """Ports below 1024 for an ordinary user."""
        if os.geteuid() != 0 or Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip() != "1024":
            raise SkipTest("needs root, to become an ordinary user, and a kernel that guards low ports")
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setuid(65534)
                ports.bind(config(route("web", 443)))
                os.write(write, b"bound")
            except StartError as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        with open(read) as answer:
            self.assertEqual(
                answer.read(),
                "127.0.0.1:443 (route web): not allowed: ports below 1024 need root or CAP_NET_BIND_SERVICE",
            )


class TestHave(SynchronousTestCase):
    """Some of the sockets are there already."""

    def bound(self, wanted: Config, have: dict[ports.Bound, socket.socket] | None = None) -> tuple[Listener, ...]:
        listeners = ports.bind(wanted, have)
        self.addCleanup(ports.close, listeners)
        return listeners

    def have(self, listeners: tuple[Listener, ...]) -> dict[ports.Bound, socket.socket]:
        return {(one.address, one.port): one.sock for one in listeners}

    def test_what_is_there_is_used(self) -> None:
        """The same socket, under the names of the routes that want it now; the rest is bound."""
        one, two = reserved(self), reserved(self)
        before = self.bound(config(route("a", one)))
        after = self.bound(config(route("b", one), route("c", two)), self.have(before))
        by_port = {listener.port: listener for listener in after}
        self.assertIs(by_port[one].sock, before[0].sock)
        self.assertEqual((by_port[one].routes, by_port[two].routes), (("b",), ("c",)))
        self.assertEqual([one.port for one in ports.opened_among(after, self.have(before))], [two])

    def test_a_refusal_closes_only_what_was_opened_for_it(self) -> None:
        """What was there goes on listening."""
        one, two = reserved(self), reserved(self)
        before = self.bound(config(route("a", one)))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            wanted = config(route("a", one), route("b", two), route("c", taken.getsockname()[1]))
            self.assertRaises(StartError, ports.bind, wanted, self.have(before))
        socket.create_connection(("127.0.0.1", one), 30).close()
        socket.create_server(("127.0.0.1", two)).close()

    def test_nobody_can_connect_before_it_is_said(self) -> None:
        """Bound, but not listening: a connection that came now would wait for a reload that may be refused."""
        port = reserved(self)
        listeners = ports.bind_only(config(route("a", port)), {})
        self.addCleanup(ports.close, listeners)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port), 5)
        ports.listen(listeners, {})
        socket.create_connection(("127.0.0.1", port), 30).close()

    def test_a_wildcard_beside_its_address(self) -> None:
        """Either is bound while the other is there; afterwards no option stays that would let others in between."""
        port = reserved(self)
        narrow = self.bound(config(route("a", port)))
        wide = self.bound(config(route("a", port), listen=(IPv4Address("0.0.0.0"),)), self.have(narrow))
        self.assertIsNot(wide[0].sock, narrow[0].sock)
        for listener in (*narrow, *wide):
            self.assertEqual(listener.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT), 0)
        narrow[0].sock.close()
        again = self.bound(config(route("a", port)), self.have(wide))
        wide[0].sock.close()
        with socket.create_connection(("127.0.0.1", port), 30):
            again[0].sock.accept()[0].close()


class TestInherited(SynchronousTestCase):
    """Descriptors that whoever started us has left open, sd_listen_fds(3)."""

    def passed(self, *socks: socket.socket, pid: int | None = None) -> dict[ports.Bound, socket.socket]:
        """As if these were descriptors 3 and following."""
        first = 200
        for number, sock in enumerate(socks):
            os.dup2(sock.fileno(), first + number, inheritable=True)
        self.environment = {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(len(socks)), "X": "y"}
        found = ports.inherited(self.environment, first)
        for sock in found.values():
            self.addCleanup(sock.close)
        return found

    def test_they_are_found_by_address_and_port(self) -> None:
        """Ready for the edge, not for children; the variables are gone."""
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            found = self.passed(one, two)
            self.assertEqual(set(found), {one.getsockname(), two.getsockname()})
            for sock in found.values():
                self.assertFalse(sock.getblocking() or sock.get_inheritable())
        self.assertEqual(self.environment, {"X": "y"})

    def test_those_of_somebody_else_are_not_ours(self) -> None:
        """The variables are meant for one process."""
        with socket.create_server(("127.0.0.1", 0)) as one:
            self.assertEqual(self.passed(one, pid=1), {})
            os.close(200)

    def test_what_is_no_listening_socket_is_refused(self) -> None:
        """A datagram socket, or none at all."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            self.assertRaises(StartError, self.passed, datagrams)
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        self.assertRaises(StartError, ports.inherited, environment, 250)


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
