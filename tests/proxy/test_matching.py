"""Real clients and backends: what a connection and each of its requests are told apart by."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

from dcrouter.config.actions import Respond
from dcrouter.config.routes import RouteTls
from dcrouter.config.targets import UpstreamTls
from dcrouter.tls.credential import Credential
from tests.support.edge import Backend, EdgeTest, read_all, route, says, secured

TERMINATE = RouteTls(mode="terminate")


def respond(text: str) -> Respond:
    return Respond(body=text)


class HelloTests(EdgeTest):
    """TLS that is passed through: each backend says its own name inside of it."""

    def backend(self, name: str, alpn: Sequence[str] = ()) -> Backend:
        return Backend(self, secured(says(name.encode()), self.credential(), self.directory, alpn))

    def credential(self) -> Credential:
        return self.ca.issue(["a.test", "shop.test", "shop1.test", "shop7.test"])

    def asks(self, port: int, name: str, alpn: Sequence[str] = (), newest: ssl.TLSVersion | None = None) -> str:
        """What the backend says that a client reaches."""
        context = ssl.create_default_context(cafile=str(self.directory / "internal-ca" / "ca.pem"))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if newest is not None:
            context.maximum_version = newest

        def run() -> str:
            with (
                socket.create_connection(("127.0.0.1", port), 30) as sock,
                context.wrap_socket(sock, server_hostname=name) as session,
            ):
                session.sendall(b"x")
                return session.recv(100).decode()

        return self.client(run)

    def test_protocols_that_a_client_offers(self) -> None:
        """One of them is enough, and none is none."""
        port = self.port()
        self.open(
            route("h2", port, self.backend("h2", ["h2"]).target, tls="passthrough", alpn=("h2", "x")),
            route("rest", port, self.backend("rest").target, tls="passthrough"),
        )
        self.assertEqual(self.asks(port, "a.test", ["http/1.1", "h2"]), "h2")
        self.assertEqual(self.asks(port, "a.test", ["http/1.1"]), "rest")
        self.assertEqual(self.asks(port, "a.test"), "rest")

    def test_the_newest_version_that_a_client_offers(self) -> None:
        """A client of today offers 1.2 too, and is none of it."""
        port = self.port()
        self.open(
            route("old", port, self.backend("old").target, tls="passthrough", tls_versions=("TLSv1.2",)),
            route("new", port, self.backend("new").target, tls="passthrough", tls_versions=("TLSv1.3",)),
        )
        self.assertEqual(self.asks(port, "a.test"), "new")
        self.assertEqual(self.asks(port, "a.test", newest=ssl.TLSVersion.TLSv1_2), "old")

    def test_names_that_an_expression_matches(self) -> None:
        """Behind exact names and wildcards, before any name; its certificate is looked for among the others."""
        port = self.port()
        self.open(
            route("rest", port, self.backend("rest").target, tls="passthrough"),
            route("shop", port, self.backend("shop").target, tls="passthrough", domains=("re:^shop[0-9]+[.]test$",)),
            route("one", port, self.backend("one").target, tls="passthrough", domains=("shop1.test",)),
        )
        self.assertEqual(self.asks(port, "shop7.test"), "shop")
        self.assertEqual(self.asks(port, "shop1.test"), "one")
        self.assertEqual(self.asks(port, "shop.test"), "rest")

    def test_a_target_is_offered_what_the_client_has_chosen(self) -> None:
        """Re-encrypted on a tcp route: ours first, of what the client offers."""
        chosen: list[str | None] = []

        def talk(session: socket.socket) -> None:
            assert isinstance(session, ssl.SSLSocket)
            chosen.append(session.selected_alpn_protocol())
            session.recv(1)
            session.sendall(b"done")

        backend = Backend(self, secured(talk, self.credential(), self.directory, ["irc", "h2"]))
        port = self.port()
        tls = RouteTls(
            mode="terminate-and-reencrypt",
            alpn=("h2", "irc"),
            upstream=UpstreamTls(ca=self.directory / "internal-ca" / "ca.pem", server_name="a.test"),
        )
        ca = {str(tls.upstream.ca): (self.directory / "internal-ca" / "ca.pem").read_bytes()}
        self.open(route("x", port, backend.target, tls=tls, domains=("a.test",)), ca_files=ca)
        for offer in (["irc", "h2"], ["irc"], []):
            self.assertEqual(self.asks(port, "a.test", offer), "done")
        self.assertRaises(ssl.SSLError, self.asks, port, "a.test", ["http/1.1"])
        self.assertEqual(chosen, ["h2", "irc", None])


class RequestTests(EdgeTest):
    """One TLS connection that is kept alive, and where each of its requests goes."""

    def opened(self) -> int:
        port = self.port()
        internal = RouteTls(mode="terminate", certificate="internal")
        self.open(
            route("rest", port, respond("rest"), tls=TERMINATE, domains=("*.test",)),
            route("v1", port, respond("v1"), tls=TERMINATE, domains=("a.test",), path=("/v1/**", "/health")),
            route(
                "write", port, respond("write"), tls=TERMINATE, domains=("a.test",), path=("/v1/**",), methods=("PUT",)
            ),
            route("beta", port, respond("beta"), tls=TERMINATE, domains=("a.test",), headers={"x-beta": "re:[a-c]"}),
            route("old", port, respond("old"), tls=TERMINATE, domains=("a.test",), path=("/old",), alpn=("x",)),
            route("own", port, respond("own"), tls=internal, domains=("own.test",)),
            route("tcp", port, Backend(self, says(b"")).target, tls=TERMINATE, domains=("tcp.org",)),
        )
        return port

    def test_each_request_finds_its_own_route(self) -> None:
        """By path, method, header and Host; what the hello said counts for all of them."""
        port = self.opened()
        requests = [
            ("GET /v1/a", "a.test", "", "v1"),
            ("GET /health", "a.test", "", "v1"),
            ("PUT /v1/a", "a.test", "content-length: 0\r\n", "write"),
            ("GET /x", "a.test", "X-Beta: b\r\n", "beta"),
            ("GET /x", "a.test", "X-Beta: d\r\n", "rest"),
            ("GET /old", "a.test", "", "rest"),
            ("GET /v1/a", "b.test", "", "rest"),
            ("GET /%76%31/a", "A.test:443", "", "v1"),
            ("GET //v1/./a", "a.test", "", "v1"),
        ]
        sent = b"".join(f"{line} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode() for line, host, more, _ in requests)
        answer = self.ask_tls(port, "a.test", sent + b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        bodies = [part.partition(b"\r\n\r\n")[2].decode() for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
        self.assertEqual(bodies, [*(expected for *_, expected in requests), "rest"])

    def test_what_is_not_for_this_session_is_misdirected(self) -> None:
        """A certificate of its own, bytes that are no requests; and the connection goes on."""
        port = self.opened()
        for host in ("own.test", "tcp.org"):
            sent = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\nGET / HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n"
            answer = self.ask_tls(port, "a.test", sent.encode())
            self.assertTrue(answer.startswith(b"HTTP/1.1 421 "), answer)
            self.assertTrue(answer.endswith(b"rest"), answer)

    def test_a_path_that_could_go_two_ways_is_refused(self) -> None:
        """400, and the end."""
        port = self.opened()
        for path in ("/x/../v1/a", "/x%2f..%2fv1/a", "/v1\\a", "/v1;x/a"):
            answer = self.ask_tls(port, "a.test", f"GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)

    def test_plain_requests_too(self) -> None:
        """On a port where nobody speaks TLS."""
        port = self.port()
        self.open(
            route("rest", port, respond("rest")),
            route("v1", port, respond("v1"), path=("/v1/**",)),
            route("shop", port, respond("shop"), domains=("re:shop[0-9]+",)),
        )

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                for path, host in (("/v1/a", "a"), ("/", "a"), ("/v1/a", "shop1")):
                    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                sock.shutdown(socket.SHUT_WR)
                return read_all(sock)

        answer = self.client(run)
        self.assertEqual(
            [part.rpartition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 ")[1:]], [b"v1", b"rest", b"shop"]
        )
