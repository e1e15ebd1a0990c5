"""What authorities are shown, and that nobody else notices."""

from __future__ import annotations

import socket
from ipaddress import ip_network

from cryptography import x509
from OpenSSL import SSL

from dcrouter.config.actions import Redirect, Respond
from dcrouter.config.routes import Defaults, Timeouts
from dcrouter.config.security import RouteSecurity
from dcrouter.tls.acme.challenges import tls_alpn_certificate
from tests.support.certificates import Authority
from tests.support.edge import Backend, EdgeTest, answers, free_listener, read_anyhow, route, says, secured

TOKEN = b"GET /.well-known/acme-challenge/t0ken HTTP/1.1\r\nHost: www.example.test\r\nUser-Agent: a CA\r\n\r\n"
OTHER = TOKEN.replace(b"t0ken", b"other")
IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")


class ChallengeTest(EdgeTest):
    def show(self, port: int, *names: str) -> None:
        """The edge shows the token `t0ken` on `port`, and certificates for `names`."""
        pairs = {name: [one.decode() for one in tls_alpn_certificate(name, "t0ken.thumb")] for name in names}
        self.edge.challenges.update({"port": port, "http": {"t0ken": "t0ken.thumb"}, "tls": pairs})

    def leaf(self, port: int, name: str, *alpn: bytes) -> x509.Certificate:
        """What a client with this hello is shown."""

        def run() -> x509.Certificate:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                context = SSL.Context(SSL.TLS_CLIENT_METHOD)
                context.set_alpn_protos(list(alpn))
                sock.settimeout(None)
                connection = SSL.Connection(context, sock)
                connection.set_connect_state()
                connection.set_tlsext_host_name(name.encode())
                connection.do_handshake()
                found = connection.get_peer_certificate(as_cryptography=True)
                assert found is not None
                return found

        return self.client(run)

    def proves(self, leaf: x509.Certificate) -> bool:
        return any(one.oid == IDENTIFIER and one.critical for one in leaf.extensions)


class HttpTests(ChallengeTest):
    def test_before_any_redirect(self) -> None:
        """Our token is answered, another one is the route's business; so is our own on another port."""
        port, elsewhere = self.port(), self.port()
        redirect = Redirect(to="https://{host}{uri}")
        self.open(route("to-https", port, redirect), route("too", elsewhere, redirect))
        self.show(port)
        said = self.ask(port, TOKEN)
        self.assertTrue(said.startswith(b"HTTP/1.1 200 OK\r\n") and said.endswith(b"\r\n\r\nt0ken.thumb"), said)
        event = self.event()
        self.assertEqual((event.route, event.reason), (None, "closed"))
        for where, data in ((port, OTHER), (elsewhere, TOKEN), (port, TOKEN.replace(b"GET", b"POST"))):
            data = data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            self.assertTrue(self.ask(where, data).startswith(b"HTTP/1.1 308 "), data)

    def test_before_a_route_of_tcp(self) -> None:
        """Whose target gets everything else untouched, be it in pieces or from a client that says little."""
        backend = Backend(self, says(b"theirs"))
        port = self.port()
        self.open(route("all", port, backend.target))
        self.show(port)
        self.assertTrue(self.ask(port, TOKEN).endswith(b"t0ken.thumb"))
        self.assertEqual(backend.connections, 0)
        for data in (OTHER, b"G", b"\x16\x03\x01", TOKEN[:20] + b"!"):

            def run(data: bytes = data) -> bytes:
                with socket.create_connection(("127.0.0.1", port), 30) as sock:
                    sock.sendall(data)
                    if len(data) == 1:
                        sock.sendall(b"one")
                    return read_anyhow(sock)

            self.assertEqual(self.client(run), b"theirs", data)

    def test_in_pieces(self) -> None:
        """However the request comes."""
        port = self.port()
        self.open(route("page", port, Respond()))
        self.show(port)

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(0, len(TOKEN), 7):
                    sock.sendall(TOKEN[at : at + 7])
                return read_anyhow(sock)

        self.assertTrue(self.client(run).endswith(b"t0ken.thumb"))

    def test_whoever_waits_for_us_is_served_in_the_end(self) -> None:
        """A target that speaks first on that port is only late."""
        backend = Backend(self, lambda sock: sock.sendall(b"220 hello\r\n"))
        port = self.port()
        self.open(route("all", port, backend.target), defaults=Defaults(timeouts=Timeouts(hello=0.2)))
        self.show(port)
        with socket.create_connection(("127.0.0.1", port), 30) as sock:
            self.loop.until(lambda: self.edge.accepted == 1)
            self.loop.until(lambda: self.loop.reactor.advance(0.1) or backend.connections)
            self.assertEqual(self.loop.received(sock), b"220 hello\r\n")

    def test_where_nobody_else_is_let_in(self) -> None:
        """Authorities come from anywhere; the others are still turned away, by the route."""
        port = self.port()
        own = RouteSecurity(allow=(ip_network("10.0.0.0/8"),))
        self.open(route("private", port, Respond(), security=own))
        self.assertTrue(self.is_reset(port, TOKEN))
        self.show(port)
        self.assertTrue(self.ask(port, TOKEN).endswith(b"t0ken.thumb"))
        self.assertFalse(self.ask(port, OTHER).startswith(b"HTTP/1.1 200"))

    def test_a_port_of_its_own(self) -> None:
        """404 to all else, also while nothing is ordered; given to a route when one wants it."""
        port = self.port()
        self.open(route("page", port, Respond(body="page")))
        listener = free_listener()
        other = int(listener.getsockname()[1])
        twin = listener.dup()
        self.edge.respond([listener])
        self.assertTrue(self.ask(other, OTHER).startswith(b"HTTP/1.1 404 "))
        self.show(other)
        self.assertTrue(self.ask(other, TOKEN).endswith(b"t0ken.thumb"))
        self.assertTrue(self.ask(other, OTHER).startswith(b"HTTP/1.1 404 "))
        self.assertEqual(self.ask(other, b"nonsense\r\n\r\n")[:13], b"HTTP/1.1 404 ")
        self.edge.listen(twin)
        self.assertFalse([one for one in self.edge._listeners if one.responds])
        self.edge.respond([])


class TlsTests(ChallengeTest):
    def test_only_for_names_that_are_ordered(self) -> None:
        """And only for a hello that offers nothing else; the same port serves its route meanwhile."""
        port = self.port()
        names = ("www.example.test", "other.example.test")
        self.open(route("web", port, Respond(), domains=names, tls="terminate"))
        self.assertRaises(SSL.Error, self.leaf, port, names[0], b"acme-tls/1")
        self.show(0, names[0])
        self.assertTrue(self.proves(self.leaf(port, names[0], b"acme-tls/1")))
        self.event()  # of the first one, which was nobody's yet
        event = self.event()
        self.assertEqual((event.route, event.alpn, event.sni), (None, "acme-tls/1", names[0]))
        self.assertFalse(self.proves(self.leaf(port, names[0], b"http/1.1")))
        self.assertFalse(self.proves(self.leaf(port, names[0], b"acme-tls/1", b"http/1.1")))
        self.assertRaises(SSL.Error, self.leaf, port, names[1], b"acme-tls/1")
        self.edge.challenges.update({"port": 80, "http": {}, "tls": {}})
        self.assertFalse(self.edge.challenges.shown)
        self.assertRaises(SSL.Error, self.leaf, port, names[0], b"acme-tls/1")

    def test_for_names_of_mail(self) -> None:
        """No route of the port needs to know the name."""
        port = self.port()
        self.open(route("web", port, Respond(), domains=("www.example.test",), tls="terminate"))
        self.show(0, "mail.example.test")
        self.assertTrue(self.proves(self.leaf(port, "mail.example.test", b"acme-tls/1")))

    def test_what_is_passed_through_is_the_targets(self) -> None:
        """Its own acme-tls/1 reaches it, even for a name that we order too."""
        name = "www.example.test"
        credential = Authority().credential([name])
        backend = Backend(self, secured(answers(b"theirs"), credential, self.directory, ["acme-tls/1"]))
        port = self.port()
        self.open(
            route("through", port, backend.target, domains=(name,), tls="passthrough"),
            route("web", port, Respond(), domains=("other.example.test",), tls="terminate"),
        )
        self.show(0, name, "other.example.test")
        self.assertEqual(self.leaf(port, name, b"acme-tls/1"), credential.certificates()[0])
        self.assertTrue(self.proves(self.leaf(port, "other.example.test", b"acme-tls/1")))

    def test_a_new_proof_for_the_same_name(self) -> None:
        """Takes the place of the one before."""
        port, name = self.port(), "www.example.test"
        self.open(route("web", port, Respond(), domains=(name,), tls="terminate"))
        self.show(0, name)
        first = self.leaf(port, name, b"acme-tls/1")
        self.assertEqual(self.leaf(port, name, b"acme-tls/1"), first)
        self.show(0, name)
        self.assertNotEqual(self.leaf(port, name, b"acme-tls/1"), first)
