"""Requests and responses through the HTTP relay, between clients and targets that say every byte themselves."""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_network

from dcrouter.config.actions import Forward, Respond
from dcrouter.config.routes import Http, RouteTls, Timeouts
from dcrouter.config.targets import Target
from dcrouter.config.tls import CertificateFiles
from tests.support.edge import Backend, route
from tests.support.ports import reserved
from tests.support.relay import RelayTest
from tests.support.web import Message, Wire, always, each, http, ok, request


class KeepingTests(RelayTest):
    """Connections are kept on both sides."""

    def test_requests_of_a_connection_share_one_to_the_target(self) -> None:
        """Twenty requests one after another cost the target one connection."""
        port = self.relay(each(lambda asked: ok(asked.first)))

        def run(wire: Wire) -> list[bytes]:
            bodies = []
            for number in range(20):
                wire.send(request(first=b"GET /%d HTTP/1.1" % number))
                bodies.append(wire.message().body)
            return bodies

        self.assertEqual(self.talk(port, run), [b"GET /%d HTTP/1.1" % number for number in range(20)])
        self.assertEqual(self.backend.connections, 1)
        self.assertEqual([self.request().request for _ in range(20)], list(range(1, 21)))

    def test_clients_share_connections_to_the_target(self) -> None:
        """What one client has left is there for the next."""
        port = self.relay(each(lambda asked: ok(b"x")))
        for _ in range(5):
            self.assertEqual(self.ask_one(port, request()).body, b"x")
        self.assertEqual(self.backend.connections, 1)
        self.assertEqual(self.edge.plan.pool.waiting, 1)

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        """More of them than one turn of the engine answers, with bodies among them, in one segment."""
        port = self.relay(each(lambda asked: ok(asked.first + b" " + asked.body)))

        def run(wire: Wire) -> list[bytes]:
            one = [
                request(first=b"POST /%d HTTP/1.1" % number, body=b"b%d" % number if number % 3 else b"")
                for number in range(50)
            ]
            wire.send(b"".join(one))
            return [wire.message().body for _ in range(50)]

        bodies = self.talk(port, run)
        self.assertEqual(bodies, [b"POST /%d HTTP/1.1 " % n + (b"b%d" % n if n % 3 else b"") for n in range(50)])

    def test_a_client_that_says_close_is_closed(self) -> None:
        """After the answer, which says so too."""
        port = self.relay(each(lambda asked: ok(asked.get(b"connection") or b"-")))

        def run(wire: Wire) -> tuple[Message, bytes]:
            wire.send(request(close=True))
            return wire.message(), wire.rest()

        answer, rest = self.talk(port, run)
        self.assertEqual((answer.body, answer.get(b"connection"), rest), (b"-", b"close", b""))
        event = self.event()
        self.assertEqual((event.ended_by, event.reason), ("client", "closed"))

    def test_http10_is_kept_only_if_it_asks(self) -> None:
        """And then it is told so."""
        port = self.relay(each(lambda asked: ok(asked.first)))

        def run(wire: Wire) -> tuple[Message, Message, bytes]:
            wire.send(request(b"Connection: keep-alive", first=b"GET /1 HTTP/1.0"))
            first = wire.message()
            wire.send(request(first=b"GET /2 HTTP/1.0"))
            return first, wire.message(), wire.rest()

        first, second, rest = self.talk(port, run)
        self.assertEqual((first.body, first.get(b"connection")), (b"GET /1 HTTP/1.1", b"keep-alive"))
        self.assertEqual((second.body, second.get(b"connection"), rest), (b"GET /2 HTTP/1.1", b"close", b""))

    def test_a_target_that_closes_is_not_used_again(self) -> None:
        """Whether it says so or just does it; the client's connection stays."""
        says = iter((b"Connection: close", b"X: y", b"X: y"))

        def serve(wire: Wire) -> None:
            wire.message()
            wire.send(ok(b"x", next(says)))

        port = self.relay(http(serve))

        def run(wire: Wire) -> None:
            for _ in range(3):
                wire.send(request())
                self.assertEqual(wire.message().body, b"x")

        self.talk(port, run)
        self.assertEqual(self.backend.connections, 3)
        self.loop.until(lambda: self.edge.plan.pool.waiting == 0)

    def test_a_target_that_says_something_unasked_is_not_used_again(self) -> None:
        """Nobody knows whose it would be: behind a response, with it, or later."""
        for extra in (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"\r\n", b"x"):
            port = self.relay(always(ok(b"good") + extra))
            for _ in range(3):
                self.assertEqual(self.ask_one(port, request()).body, b"good")
            self.assertEqual(self.backend.connections, 3)
            self.again()

    def test_a_dead_connection_of_the_pool_is_noticed(self) -> None:
        """A GET is asked again on a new one, where the target closed as the request came; a POST is not sent twice."""
        asked: list[bytes] = []

        def serve(wire: Wire) -> None:
            first = wire.message()
            asked.append(first.first)
            wire.send(ok(b"first"))
            asked.append(b"again " + wire.message().first)  # and closes without an answer

        port = self.relay(http(serve))
        self.assertEqual(self.ask_one(port, request()).body, b"first")
        self.assertEqual(self.ask_one(port, request(first=b"GET /2 HTTP/1.1")).body, b"first")
        self.assertEqual(asked, [b"GET / HTTP/1.1", b"again GET /2 HTTP/1.1", b"GET /2 HTTP/1.1"])
        answer = self.ask_one(port, request(first=b"POST /3 HTTP/1.1", body=b"x"))
        self.assertEqual(answer.status, 502)
        self.assertEqual(asked[3:], [b"again POST /3 HTTP/1.1"])

    def test_connections_that_wait_are_closed_in_time(self) -> None:
        """Neither the target nor we keep them for ever."""
        port = self.relay(each(lambda asked: ok(b"x")))
        self.ask_one(port, request())
        self.assertEqual(self.edge.plan.pool.waiting, 1)
        (kept,) = next(iter(self.edge.plan.pool._waiting.values()))
        kept.expired(self.edge.engine.now)
        self.assertEqual(self.edge.plan.pool.waiting, 0)
        self.assertEqual(kept.plain.fd, -1)
        self.ask_one(port, request())
        self.assertEqual(self.backend.connections, 2)

    def test_a_drain_closes_what_waits_and_lets_requests_end(self) -> None:
        """A connection between two requests ends at once; one in the midst of one gets its answer, the last."""
        go = threading.Event()
        self.addCleanup(go.set)

        def serve(wire: Wire) -> None:
            while True:
                if wire.message().first.startswith(b"GET /slow"):
                    go.wait(10)
                wire.send(ok(b"x"))

        port = self.relay(http(serve))
        with (
            socket.create_connection(("127.0.0.1", port)) as idle,
            socket.create_connection(("127.0.0.1", port)) as busy,
        ):
            idle.sendall(request())
            self.loop.received(idle)
            busy.sendall(request(first=b"GET /slow HTTP/1.1"))
            self.loop.until(lambda: self.backend.connections == 1 and not self.edge.plan.pool.waiting)
            drained = self.edge.drain()
            self.assertEqual(self.loop.received(idle), b"")
            self.assertFalse(drained.called)
            go.set()
            self.assertIn(b"\r\nConnection: close\r\n", self.loop.received(busy))
            self.assertEqual(self.loop.received(busy), b"")
        self.loop.until(lambda: self.loop.reactor.advance(0.1) or drained.called)


class HeadTests(RelayTest):
    """What of a head goes through, and what does not."""

    def head_at_target(self, *lines: bytes, first: bytes = b"GET / HTTP/1.1", **keys: object) -> Message:
        """The request that the target sees."""
        seen: list[Message] = []

        def answer(asked: Message) -> bytes:
            seen.append(asked)
            return ok(b"x")

        port = self.relay(each(answer), **keys)
        self.assertEqual(self.ask_one(port, request(*lines, first=first)).status, 200)
        return seen[0]

    def test_fields_for_one_connection_stay_on_it(self) -> None:
        """Connection and what it names, and the fields that never went further."""
        seen = self.head_at_target(
            b"Connection: keep-alive, X-Private, Host, Cookie, X-Forwarded-For",
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: keep-alive",
            b"Proxy-Authorization: Basic x",
            b"TE: trailers",
            b"X-Private: 1",
            b"Cookie: a=b",
            b"X-Kept: \xe4",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMA",
        )
        for gone in (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"x-private"):
            self.assertIsNone(seen.get(gone), gone)
        self.assertEqual((seen.get(b"upgrade"), seen.get(b"http2-settings")), (None, None))
        self.assertEqual((seen.get(b"cookie"), seen.get(b"x-kept"), seen.get(b"host")), (b"a=b", b"\xe4", b"a.example"))
        self.assertEqual(seen.get(b"x-forwarded-for"), b"127.0.0.1")

    def test_the_client_is_introduced_and_cannot_introduce_itself(self) -> None:
        """Its own X-Forwarded-* and Forwarded are gone, also where only an underscore makes them others."""
        seen = self.head_at_target(
            b"X-Forwarded-For: 1.2.3.4",
            b"X_Forwarded_For: 1.2.3.4",
            b"X-Forwarded-Proto: https",
            b"x-forwarded-host: evil.example",
            b"X-Forwarded-Port: 443",
            b"Forwarded: for=1.2.3.4",
        )
        self.assertEqual(seen.head.lower().count(b"forwarded"), 4)
        self.assertNotIn(b"1.2.3.4", seen.head)
        self.assertEqual(seen.get(b"x-forwarded-for"), b"127.0.0.1")
        self.assertEqual(seen.get(b"x-forwarded-proto"), b"http")
        self.assertEqual(seen.get(b"x-forwarded-host"), b"a.example")
        self.assertEqual(seen.get(b"forwarded"), b"for=127.0.0.1;host=a.example;proto=http")
        self.assertIsNone(seen.get(b"x-forwarded-port"))

    def test_a_trusted_proxy_is_believed(self) -> None:
        """The lists grow by it, what it has said of the scheme and the host stays."""
        seen = self.head_at_target(
            b"X-Forwarded-For: 1.2.3.4, 10.0.0.1",
            b"X-Forwarded-Proto: https",
            b"X-Forwarded-Host: shop.example",
            b"X-Forwarded-Port: 443",
            b'Forwarded: for="[2001:db8::1]"',
            b"X_Forwarded_For: 9.9.9.9",
            http=Http(trusted_proxies=(ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"))),
        )
        self.assertEqual(seen.get(b"x-forwarded-for"), b"1.2.3.4, 10.0.0.1, 127.0.0.1")
        self.assertEqual(seen.get(b"x-forwarded-proto"), b"https")
        self.assertEqual(seen.get(b"x-forwarded-host"), b"shop.example")
        self.assertEqual(seen.get(b"x-forwarded-port"), b"443")
        self.assertEqual(seen.get(b"forwarded"), b'for="[2001:db8::1]", for=127.0.0.1;host=a.example;proto=http')
        self.assertNotIn(b"9.9.9.9", seen.head)
        self.assertEqual(self.request().client, "1.2.3.4")

    def test_an_absolute_target_is_asked_for_in_the_form_of_an_origin(self) -> None:
        """Its authority replaces Host (RFC 9112 section 3.2.2)."""
        seen = self.head_at_target(first=b"GET http://A.example:80/x?y HTTP/1.1")
        self.assertEqual((seen.first, seen.get(b"host")), (b"GET /x?y HTTP/1.1", b"a.example:80"))
        self.assertEqual(seen.head.lower().count(b"\r\nhost:"), 1)

    def test_targets_pass_as_they_are(self) -> None:
        """No path is tidied up on its way."""
        for target in (b"/", b"//x", b"/a/../b", b"/%2e%2E/%00", b"/a?b?c&%20", b"/?", b"*"):
            method = b"OPTIONS" if target == b"*" else b"GET"
            first = method + b" " + target + b" HTTP/1.1"
            self.assertEqual(self.head_at_target(first=first).first, first)
            self.again()

    def test_responses_lose_what_was_said_to_us(self) -> None:
        """And keep everything else in its order."""
        port = self.relay(
            each(
                lambda asked: ok(
                    b"x", b"Set-Cookie: a", b"Keep-Alive: x", b"Connection: X-Y", b"X-Y: z", b"Set-Cookie: b"
                )
            )
        )
        answer = self.ask_one(port, request())
        self.assertEqual(answer.head, b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 1\r\n\r\n")

    def test_requests_are_routed_one_by_one(self) -> None:
        """By Host, on one connection; nobody's is a 404 and the connection goes on."""
        one, other = (Backend(self, always(ok(name))) for name in (b"one", b"other"))
        port = self.port()
        self.open(
            route("one", port, one.target, domains=("one.example",)),
            route("other", port, other.target, domains=("other.example",)),
        )

        def run(wire: Wire) -> list[tuple[int, bytes]]:
            answers = []
            for host in (b"one.example", b"other.example", b"none.example", b"ONE.example.:80"):
                wire.send(request(host=host))
                answer = wire.message()
                answers.append((answer.status, answer.body))
            return answers

        self.assertEqual(
            self.talk(port, run), [(200, b"one"), (200, b"other"), (404, b"404 Not Found\n"), (200, b"one")]
        )
        counters = self.edge.status()["routes"]
        self.assertEqual([counters[name]["requests"] for name in ("one", "other")], [2, 1])
        self.event()
        self.assertEqual([bound.admission.present.connections for bound in self.edge.plan.routes], [0, 0])


class OwnAnswerTests(RelayTest):
    """Answers that are made here."""

    def test_without_a_body(self) -> None:
        """HEAD and 204 get the head alone, and the next request its answer."""
        port = self.port()
        self.open(
            route("page", port, Respond(body="page"), domains=("a.example",)),
            route("none", port, Respond(status=204, body="never"), domains=("b.example",)),
        )

        def run(wire: Wire) -> None:
            wire.send(request(first=b"HEAD / HTTP/1.1") + request(host=b"b.example") + request(close=True))
            self.assertEqual(wire.message(to_head=True).get(b"content-length"), b"4")
            self.assertIsNone(wire.message().get(b"content-length"))
            last = wire.message()
            self.assertEqual((last.body, last.get(b"content-type")), (b"page", b"text/plain; charset=utf-8"))
            self.assertEqual(wire.rest(), b"")

        self.talk(port, run)

    def test_a_host_of_another_certificate(self) -> None:
        """421: the client may not take one session for both; with its own name it may go on."""
        mine = self.ca.issue(["b.example"])
        (self.directory / "b.pem").write_bytes(mine.chain)
        (self.directory / "b.key").write_bytes(mine.key)
        files = CertificateFiles(cert=self.directory / "b.pem", key=self.directory / "b.key")
        port = self.port()
        self.open(
            route(
                "a",
                port,
                Respond(body="a"),
                domains=("a.example",),
                tls=RouteTls(mode="terminate", certificate="internal"),
            ),
            route(
                "b", port, Respond(body="b"), domains=("b.example",), tls=RouteTls(mode="terminate", certificate=files)
            ),
        )
        asked = request(host=b"b.example") + request(host=b"a.example", close=True)
        answer = self.ask_tls(port, "a.example", asked)
        self.assertTrue(answer.startswith(b"HTTP/1.1 421 Misdirected Request\r\n"), answer)
        self.assertTrue(answer.endswith(b"\r\n\r\na"), answer)
        self.assertEqual([self.request().status for _ in range(2)], [421, 200])


class FailureTests(RelayTest):
    """What a client is told where a target fails, and what the log is."""

    def failed(self, port: int, data: bytes = b"") -> tuple[int, str, str | None]:
        """Status, termination and reason of one request."""
        answer = self.ask_one(port, data or request())
        self.assertEqual(answer.content, answer.first[9:] + b"\n")
        done = self.request()
        self.assertEqual(done.status, answer.status)
        return answer.status, done.termination, done.reason

    def test_nobody_listens(self) -> None:
        """502, the target's label and why."""
        port = reserved(self)
        front = self.port()
        self.open(route("web", front, Target(host="127.0.0.1", port=port), domains=("a.example",)))
        self.assertEqual(self.failed(front), (502, "target:connect", f"127.0.0.1:{port}: Connection refused"))

    def test_the_next_target_is_tried(self) -> None:
        """As for tcp."""
        backend = Backend(self, each(lambda _: ok(b"x")))
        targets = (Target(host="127.0.0.1", port=reserved(self)), backend.target)
        port = self.port()
        self.open(route("web", port, Forward(targets=targets, balance="failover"), domains=("a.example",)))
        self.assertEqual(self.ask_one(port, request()).body, b"x")

    def test_no_address(self) -> None:
        """503: there is nobody to ask."""
        port = self.port()
        self.open(route("web", port, Target(host="app.internal", port=1), domains=("a.example",)))
        status, termination, reason = self.failed(port)
        self.assertEqual((status, termination), (503, "target:request"))
        self.assertIn("no known address", str(reason) + " no known address")

    def test_responses_that_are_none(self) -> None:
        """502 for what is no HTTP, or is framed in two ways, or ends too early."""
        for said, reason in (
            (b"SSH-2.0-x\r\n", "not a response"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "malformed"),
            (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "malformed"),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "malformed"),
            (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", "nobody asked"),
            (b"HTTP/1.1 200 OK\r\nContent-", "in the head of its response"),
            (b"", "without a response"),
            (b"HTTP/1.1 103 Early\r\n\r\n" * 100, "too many interim"),
        ):

            def serve(wire: Wire, said: bytes = said) -> None:
                wire.message()
                wire.send(said)

            port = self.relay(http(serve))

            def run(wire: Wire) -> Message:
                wire.send(request())
                while (answer := wire.message()).status == 103:
                    pass
                return answer

            self.assertEqual(self.talk(port, run).status, 502, said)
            done = self.request()
            self.assertEqual(done.termination, "target:wait")
            self.assertIn(reason, done.reason or "")
            self.again()

    def test_no_answer_in_time(self) -> None:
        """504, and the connection is not used again."""
        over = threading.Event()
        self.addCleanup(over.set)
        port = self.relay(lambda sock: (sock.recv(100), over.wait(20))[0], timeouts=Timeouts(idle=0.3))
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(request())
            self.loop.until(lambda: self.backend.connections)
            data = self.wait_for(sock)
        self.assertTrue(data.startswith(b"HTTP/1.1 504 "), data)
        self.assertEqual(self.request().termination, "target:wait")
        self.assertEqual(self.edge.plan.pool.waiting, 0)

    def test_a_head_that_does_not_end(self) -> None:
        """408 where some of it is there, nothing where a kept connection just waits."""
        port = self.relay(each(lambda asked: ok(b"x")), http=Http(request_timeout=0.3, keep_alive=0.3))
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a.ex")
            self.assertTrue(self.wait_for(sock).startswith(b"HTTP/1.1 408 "))
        self.assertEqual(self.event().reason, "request_timeout timeout")
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(request())
            self.assertTrue(self.loop.received(sock).endswith(b"x"))
            self.assertEqual(self.wait_for(sock), b"")
        self.assertEqual(self.event().reason, "keep_alive timeout")

    def test_a_body_that_does_not_end(self) -> None:
        """The client is told 408: it was its turn."""
        port = self.relay(each(lambda asked: ok(b"x")), timeouts=Timeouts(idle=0.3))
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(request(b"Content-Length: 100", first=b"POST / HTTP/1.1") + b"half")
            self.assertTrue(self.wait_for(sock).startswith(b"HTTP/1.1 408 "))
        self.assertEqual(self.request().termination, "router:wait")

    def test_a_target_that_breaks_off_is_not_taken_for_whole(self) -> None:
        """A body cut short, by length or in chunks, ends for the client by a reset, not by an end."""
        for body in (b"Content-Length: 100000\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe"):

            def serve(wire: Wire, body: bytes = body) -> None:
                wire.message()
                wire.send(b"HTTP/1.1 200 OK\r\n" + body)

            port = self.relay(http(serve))

            def run(wire: Wire) -> None:
                wire.send(request())
                wire.message()

            self.assertRaises(ConnectionResetError, self.talk, port, run)
            done = self.request()
            self.assertEqual((done.status, done.termination), (200, "target:response"))
            self.again()

    def test_a_client_that_goes_takes_its_request_along(self) -> None:
        """A reset while the target thinks, or while it answers, ends the target's connection too."""
        ended: list[bytes] = []

        def serve(wire: Wire) -> None:
            asked = wire.message()
            if b"/big" in asked.first:
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + bytes(1 << 20))
            ended.append(wire.sock.recv(1))

        port = self.relay(http(serve))
        for target, termination in ((b"/", "client:wait"), (b"/big", "client:response")):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(request(first=b"GET %b HTTP/1.1" % target))
            if target == b"/big":
                self.loop.received(sock)
            else:
                self.loop.until(lambda: self.backend.connections)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            sock.close()
            self.assertEqual(self.request().termination, termination)
        self.loop.until(lambda: len(ended) == 2)
        self.assertEqual(self.edge.plan.pool.waiting, 0)
