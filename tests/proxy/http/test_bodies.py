"""Bodies through the HTTP relay: however framed, however large, whoever is slow, and what comes before them."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading

from dcrouter.config.routes import RouteTls
from dcrouter.config.targets import UpstreamTls
from dcrouter.wire.http1.chunked import MAX_TRAILERS
from tests.support.edge import Backend, route, secured
from tests.support.relay import RelayTest
from tests.support.web import Message, Wire, each, http, ok, request

BIG = 5_000_000
PATTERN = hashlib.sha256(b"pattern").digest() * (BIG // 32)
POST = b"POST / HTTP/1.1"


def chunks(data: bytes, size: int, trailers: bytes = b"") -> bytes:
    """`data` as a chunked body."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


class FramingTests(RelayTest):
    def test_requests_of_every_framing(self) -> None:
        """None, by length, chunked with trailers: the target reads what the client meant."""
        seen: list[Message] = []

        def answer(asked: Message) -> bytes:
            seen.append(asked)
            return ok(asked.content)

        port = self.relay(each(answer))

        def run(wire: Wire) -> None:
            for size in (0, 1, 1000, 20_000, 200_000):
                body = PATTERN[:size]
                wire.send(request(first=POST, body=body))
                self.assertEqual(wire.message().body, body)
                wire.send(request(b"Transfer-Encoding: chunked", first=POST) + chunks(body, 7777, b"X-Sum: 1\r\n"))
                self.assertEqual(wire.message().body, body)
            wire.send(request(b"Content-Length: 0", first=POST))
            self.assertEqual(wire.message().body, b"")

        self.talk(port, run)
        self.assertTrue(all(asked.body.endswith(b"X-Sum: 1\r\n\r\n") for asked in seen[1::2]))
        self.assertEqual(
            [asked.get(b"content-length") for asked in seen[::2]], [None, b"1", b"1000", b"20000", b"200000", b"0"]
        )
        self.assertEqual(self.backend.connections, 1)

    def test_responses_of_every_framing(self) -> None:
        """By length and chunked the connection goes on; by its end it ends."""

        def serve(wire: Wire) -> None:
            while True:
                size = int(wire.message().first.split(b" ")[1][1:])
                wire.send(ok(PATTERN[:size]))
                wire.message()
                wire.send(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(PATTERN[:size], 9999, b"A: b\r\n")
                )

        port = self.relay(http(serve))

        def run(wire: Wire) -> None:
            for size in (0, 1, 1000, 20_000, 200_000):
                wire.send(request(first=b"GET /%d HTTP/1.1" % size) * 2)
                self.assertEqual(wire.message().body, PATTERN[:size])
                chunked = wire.message()
                self.assertEqual(chunked.content, PATTERN[:size])
                self.assertTrue(chunked.body.endswith(b"0\r\nA: b\r\n\r\n"))

        self.talk(port, run)
        self.assertEqual(self.backend.connections, 1)

    def test_a_body_that_its_end_ends(self) -> None:
        """The client is told that it will close, and its end is the body's."""

        def serve(wire: Wire) -> None:
            wire.message()
            wire.send(b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\n" + PATTERN)

        port = self.relay(http(serve))
        answer = self.ask_one(port, request())
        self.assertEqual((answer.first, answer.get(b"connection")), (b"HTTP/1.1 200 OK", b"close"))
        self.assertEqual(len(answer.body), len(PATTERN))
        self.assertEqual(self.edge.plan.pool.waiting, 0)

    def test_http10_gets_no_chunks(self) -> None:
        """It could not read them: the content alone, ended by an end."""

        def serve(wire: Wire) -> None:
            while True:
                wire.message()
                wire.send(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + chunks(PATTERN[:50_000], 1234, b"A: b\r\n")
                )

        port = self.relay(http(serve))
        answer = self.ask_one(port, request(first=b"GET / HTTP/1.0"))
        self.assertIsNone(answer.get(b"transfer-encoding"))
        self.assertEqual(answer.get(b"connection"), b"close")
        self.assertEqual(answer.body, PATTERN[:50_000])

    def test_responses_without_a_body(self) -> None:
        """HEAD, 204, 304: whatever their fields say, the next response comes behind the head."""

        def serve(wire: Wire) -> None:
            while True:
                asked = wire.message()
                if asked.first.startswith(b"HEAD"):
                    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                elif b"/204" in asked.first:
                    wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")
                elif b"/304" in asked.first:
                    wire.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: x\r\n\r\n")
                else:
                    wire.send(ok(b"next"))

        port = self.relay(http(serve))

        def run(wire: Wire) -> None:
            for first, length in (
                (b"HEAD / HTTP/1.1", b"1000"),
                (b"GET /204 HTTP/1.1", None),
                (b"GET /304 HTTP/1.1", b"1000"),
            ):
                wire.send(request(first=first) + request())
                answer = wire.message(to_head=True)
                self.assertEqual(answer.get(b"content-length"), length)
                self.assertEqual(wire.message().body, b"next")

        self.talk(port, run)
        self.assertEqual(self.backend.connections, 1)

    def test_bad_chunks_of_a_client_end_with_400(self) -> None:
        """And with both connections: nobody knows what would come next."""
        for bad in (
            b"5\r\nhelloX",
            b"x\r\n",
            b"5\nhello\r\n",
            b"0\r\nno field\r\n\r\n",
            b"0\r\n" + b"A: b\r\n" * MAX_TRAILERS,
        ):
            heard: list[bytes] = []

            def serve(wire: Wire, heard: list[bytes] = heard) -> None:
                heard.append(wire.rest())

            port = self.relay(http(serve))

            def run(wire: Wire, bad: bytes = bad) -> tuple[int, bytes]:
                wire.send(request(b"Transfer-Encoding: chunked", first=POST) + b"3\r\nabc\r\n")
                self.loop  # noqa: B018
                wire.send(bad)
                return wire.message().status, wire.rest()

            self.assertEqual(self.talk(port, run), (400, b""), bad)
            done = self.request()
            self.assertEqual((done.status, done.termination), (400, "client:wait"))
            self.loop.until(lambda heard=heard: heard)
            self.assertNotIn(b"0\r\n\r\n", heard[0])
            self.again()

    def test_bad_chunks_of_a_target_are_not_passed_on(self) -> None:
        """502 where nothing has left yet, a broken connection where something has."""
        go = threading.Event()

        def serve(wire: Wire) -> None:
            first = wire.message().first
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            if b"/later" in first:
                wire.send(head + b"3\r\nabc\r\n")
                go.wait(10)
                wire.send(PATTERN[:100_000])
            else:
                wire.send(head + b"x\r\n")
            wire.rest()

        port = self.relay(http(serve))
        self.assertEqual(self.ask_one(port, request()).status, 502)

        def run(wire: Wire) -> None:
            wire.send(request(first=b"GET /later HTTP/1.1"))
            while b"abc" not in wire.data:
                wire.data += wire.sock.recv(1000)
            go.set()
            wire.message()

        self.assertRaises(ConnectionResetError, self.talk, port, run)


class SizeTests(RelayTest):
    """Bodies of five megabytes, each way, plain and through TLS on either side."""

    def both_ways(self, port: int, tls: bool) -> None:
        context = ssl.create_default_context(cafile=str(self.directory / "internal-ca" / "ca.pem")) if tls else None

        def run() -> None:
            with socket.create_connection(("127.0.0.1", port), 30) as plain:
                sock = context.wrap_socket(plain, server_hostname="a.example") if context else plain
                with sock:
                    wire = Wire(sock)
                    for framing in (b"length", b"chunks"):
                        head = (b"Framing: " + framing,)
                        if framing == b"length":
                            wire.send(request(*head, first=POST, body=PATTERN))
                        else:
                            chunked = (*head, b"Transfer-Encoding: chunked")
                            wire.send(request(*chunked, first=POST) + chunks(PATTERN, 100_000))
                        answer = wire.message()
                        self.assertEqual(answer.status, 200)
                        self.assertTrue(answer.content == PATTERN)
                        wire.send(request(*head))
                        self.assertEqual(wire.message().content, b"")

        self.client(run)
        self.assertEqual(self.backend.connections, 1)

    @staticmethod
    def echo(asked: Message) -> bytes:
        content = asked.content
        if asked.get(b"framing") == b"length":
            return ok(content)
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(content, 30_000)

    def test_plain(self) -> None:
        self.both_ways(self.relay(each(self.echo)), tls=False)

    def test_from_tls(self) -> None:
        self.both_ways(
            self.relay(each(self.echo), tls=RouteTls(mode="terminate", certificate="internal"), protocol="http"),
            tls=True,
        )

    def test_from_tls_to_tls(self) -> None:
        credential = self.ca.issue(["app.example"])
        ca = self.directory / "internal-ca" / "ca.pem"
        upstream = UpstreamTls(server_name="app.example", ca=ca)
        tls = RouteTls(mode="terminate-and-reencrypt", certificate="internal", upstream=upstream)
        port = self.relay(
            secured(each(self.echo), credential, self.directory),
            tls=tls,
            protocol="http",
            ca_files={str(ca): ca.read_bytes()},
        )
        self.both_ways(port, tls=True)
        self.assertEqual(self.edge.plan.pool.waiting, 1)

    def test_a_client_that_does_not_read_holds_up_nobody_and_little_memory(self) -> None:
        """Of a body that nobody takes, no more waits here than one piece."""
        sent: list[int] = []

        def serve(wire: Wire) -> None:
            wire.message()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            wire.sock.settimeout(1)
            piece = chunks(bytes(60_000), 60_000)[:-5]
            total = 0
            try:
                while total < 200_000_000:
                    total += wire.sock.send(piece)
            except TimeoutError:
                sent.append(total)

        port = self.relay(http(serve))
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port))
            sock.sendall(request())
            self.loop.until(lambda: sent)
        self.assertLess(sent[0], 30_000_000)  # what the kernel's buffers take, of both connections


class InterimTests(RelayTest):
    """What comes before the response, and responses that come before the request is whole."""

    def test_100_continue(self) -> None:
        """The client waits for the target's word, and hears it."""

        def serve(wire: Wire) -> None:
            while head := wire.sock.recv(65536):
                self.assertIn(b"\r\nExpect: 100-continue\r\n", head)
                wire.send(b"HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n")
                self.assertEqual(wire.sock.recv(65536), b"hello")
                wire.send(ok(b"done"))

        port = self.relay(http(serve))

        def run(wire: Wire) -> None:
            for _ in range(2):
                wire.send(request(b"Expect: 100-continue", b"Content-Length: 5", first=POST))
                interim = wire.message()
                self.assertEqual(interim.head, b"HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n")
                wire.send(b"hello")
                self.assertEqual(wire.message().body, b"done")

        self.talk(port, run)
        self.assertEqual(self.backend.connections, 1)

    def test_a_refusal_instead_of_100(self) -> None:
        """The client hears the final word and need not send; the connection ends, for nobody knows whether it will."""

        def serve(wire: Wire) -> None:
            wire.sock.recv(65536)
            wire.send(ok(b"too large", status=b"413 Content Too Large"))
            wire.rest()

        port = self.relay(http(serve))

        def run(wire: Wire) -> tuple[Message, bytes]:
            wire.send(request(b"Expect: 100-continue", b"Content-Length: 5000000", first=POST))
            return wire.message(), wire.rest()

        answer, rest = self.talk(port, run)
        self.assertEqual((answer.status, answer.get(b"connection"), rest), (413, b"close", b""))

    def test_early_hints(self) -> None:
        """1xx pass to HTTP/1.1, any number of them in any pieces, and never to 1.0."""

        def serve(wire: Wire) -> None:
            while True:
                wire.message()
                for byte in b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n":
                    wire.send(bytes((byte,)))
                wire.send(ok(b"x"))

        port = self.relay(http(serve))

        def run(wire: Wire) -> list[int]:
            wire.send(request())
            return [wire.message().status for _ in range(3)]

        self.assertEqual(self.talk(port, run), [103, 102, 200])
        self.assertEqual(self.ask_one(port, request(first=b"GET / HTTP/1.0")).status, 200)

    def test_an_early_refusal_reaches_a_client_that_still_sends(self) -> None:
        """A target that answers and closes in the midst of an upload has said why: the client hears it, no reset."""

        def serve(wire: Wire) -> None:
            wire.sock.recv(65536)
            wire.send(ok(b"enough", status=b"413 Content Too Large"))

        port = self.relay(http(serve))

        def run(wire: Wire) -> Message:
            wire.send(request(b"Content-Length: 3000000", first=POST))
            try:
                for _ in range(30):
                    wire.send(bytes(10_000))
            except OSError:
                pass
            return wire.message()

        answer = self.talk(port, run)
        self.assertEqual((answer.status, answer.body, answer.get(b"connection")), (413, b"enough", b"close"))

    def test_a_response_may_begin_before_the_request_ends(self) -> None:
        """Both bodies move at once, as in an echo."""

        def serve(wire: Wire) -> None:
            while b"\r\n\r\n" not in wire.data:
                wire.data += wire.sock.recv(65536)
            _, _, body = wire.data.partition(b"\r\n\r\n")
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PATTERN))
            left = len(PATTERN)
            while left:
                body = body or wire.sock.recv(65536)
                wire.send(body)
                left -= len(body)
                body = b""

        port = self.relay(http(serve))

        def run(wire: Wire) -> bytes:
            threading.Thread(target=wire.send, args=(request(first=POST, body=PATTERN),), daemon=True).start()
            return wire.message().body

        self.assertTrue(self.talk(port, run) == PATTERN)

    def test_a_response_may_end_before_the_request_does(self) -> None:
        """The target has all of the request nevertheless, however framed, and the connections serve the next one."""
        heard: list[bytes] = []

        def serve(wire: Wire) -> None:
            while True:
                while b"\r\n\r\n" not in wire.data:
                    wire.data += wire.sock.recv(65536)
                wire.send(ok(b"have it"))
                heard.append(wire.message().content)

        port = self.relay(http(serve))

        def run(wire: Wire) -> None:
            for data in (
                request(first=POST, body=PATTERN),
                request(b"Transfer-Encoding: chunked", first=POST) + chunks(PATTERN, 70_000),
                request(first=POST, body=PATTERN),
            ):
                wire.send(data[:1000])
                answer = wire.message()
                self.assertEqual((answer.body, answer.get(b"connection")), (b"have it", None))
                wire.send(data[1000:])

        self.talk(port, run)
        self.loop.until(lambda: len(heard) == 3)
        self.assertTrue(all(one == PATTERN for one in heard))
        self.loop.until(lambda: len(self.requests) == 3)
        self.assertEqual({done.termination for done in self.requests}, {"done"})
        self.assertEqual((self.backend.connections, len({done.session for done in self.requests})), (1, 1))

    def test_a_target_that_ends_behind_an_early_response(self) -> None:
        """The client has its answer; if the target had said that it would end, the client was told so, too."""
        for extra, told in ((b"Connection: close", b"close"), (b"X: y", None)):

            def serve(wire: Wire, extra: bytes = extra) -> None:
                wire.sock.recv(65536)
                wire.send(ok(b"have it", extra))

            port = self.relay(http(serve))

            def run(wire: Wire) -> tuple[Message, bytes]:
                wire.send(request(b"Content-Length: 3000000", first=POST) + bytes(1000))
                return wire.message(), wire.rest()

            answer, rest = self.talk(port, run)
            self.assertEqual((answer.body, answer.get(b"connection"), rest), (b"have it", told, b""))

    def test_a_client_that_ends_behind_an_early_response(self) -> None:
        """Target and log hear of it."""
        left: list[bytes] = []

        def serve(wire: Wire) -> None:
            while b"\r\n\r\n" not in wire.data:
                wire.data += wire.sock.recv(65536)
            wire.send(ok(b"have it"))
            left.append(wire.rest())

        port = self.relay(http(serve))

        def run(wire: Wire) -> None:
            wire.send(request(b"Content-Length: 3000000", first=POST) + bytes(1000))
            self.assertEqual(wire.message().body, b"have it")

        self.talk(port, run)
        self.loop.until(lambda: left and self.requests)
        self.assertEqual(self.requests[0].termination, "client:response")

    def test_a_body_that_nobody_wants(self) -> None:
        """Behind an answer of our own, a small one is read away; a large one, or one that waits, ends all."""
        port = self.port()
        self.open(route("web", port, Backend(self, each(lambda asked: ok(b"x"))).target, domains=("a.example",)))

        def run(wire: Wire) -> tuple[bytes | None, int]:
            wire.send(request(first=POST, host=b"nobody", body=bytes(60_000)))
            first = wire.message()
            self.assertEqual(first.status, 404)
            wire.send(request())
            return first.get(b"connection"), wire.message().status

        self.assertEqual(self.talk(port, run), (None, 200))
        for data in (
            request(first=POST, host=b"nobody", body=bytes(100_000)),
            request(b"Expect: 100-continue", b"Content-Length: 5", first=POST, host=b"nobody"),
            request(b"Transfer-Encoding: chunked", first=POST, host=b"nobody") + b"5\r\nhello\r\n",
        ):
            answer = self.ask_one(port, data)
            self.assertEqual((answer.status, answer.get(b"connection")), (404, b"close"))


class UpgradeTests(RelayTest):
    """WebSocket and its like."""

    UPGRADE = (b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x")

    def test_a_switch_becomes_a_raw_relay(self) -> None:
        """Both ways, with what came at once behind the heads, until both have ended."""
        heard: list[bytes] = []

        def serve(wire: Wire) -> None:
            asked = wire.message()
            heard.append(asked.get(b"connection") or b"")
            heard.append(asked.get(b"upgrade") or b"")
            wire.send(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nX: y\r\n\r\nfirst"
            )
            wire.send(b"echo " + (wire.data or wire.sock.recv(100)))
            wire.send(b"end " + wire.rest())

        port = self.relay(http(serve))

        def run(wire: Wire) -> tuple[bytes, bytes]:
            wire.send(request(*self.UPGRADE) + b"\x81early")
            answer = wire.message()
            while b"early" not in wire.data:
                wire.data += wire.sock.recv(100)
            said, wire.data = wire.data, b""
            wire.send(PATTERN)
            wire.sock.shutdown(socket.SHUT_WR)
            return answer.head, said + wire.rest()

        head, rest = self.talk(port, run)
        self.assertEqual(
            head, b"HTTP/1.1 101 Switching Protocols\r\nX: y\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
        )
        self.assertEqual(rest, b"firstecho \x81earlyend " + PATTERN)
        self.assertEqual([word.lower() for word in heard], [b"upgrade", b"websocket"])
        done = self.request()
        self.assertEqual((done.status, done.termination), (101, "done"))
        self.assertGreater(done.bytes_in, BIG - 100)
        self.assertEqual(self.edge.plan.pool.waiting, 0)

    def test_a_target_that_does_not_switch(self) -> None:
        """Its response is one like any other, and what comes next is a request."""
        port = self.relay(each(lambda asked: ok(b"no", status=b"426 Upgrade Required")))

        def run(wire: Wire) -> list[int]:
            wire.send(request(*self.UPGRADE) + request())
            return [wire.message().status for _ in range(2)]

        self.assertEqual(self.talk(port, run), [426, 426])

    def test_offers_that_are_not_passed_on(self) -> None:
        """h2c, whose requests nobody would route; with a body; from HTTP/1.0; without the word in Connection."""
        port = self.relay(
            each(lambda asked: ok((asked.get(b"upgrade") or b"-") + b"," + (asked.get(b"connection") or b"-")))
        )
        for data in (
            request(
                b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"
            ),
            request(b"Connection: Upgrade", b"Upgrade: H2C"),
            request(b"Connection: Upgrade", b"Upgrade: HTTP/2.0, TLS/1.3"),
            request(*self.UPGRADE, first=POST, body=b"x"),
            request(*self.UPGRADE, first=b"GET / HTTP/1.0"),
            request(b"Upgrade: websocket"),
        ):
            self.assertEqual(self.ask_one(port, data).body, b"-,-", data)
        self.assertEqual(
            self.ask_one(port, request(b"Connection: upgrade", b"Upgrade: h2c, foo/1")).body, b"foo/1,Upgrade"
        )
