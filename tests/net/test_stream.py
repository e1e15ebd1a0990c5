from __future__ import annotations

import fcntl
import itertools
import os
import random
import socket
import subprocess
from collections.abc import Callable, Coroutine
from typing import Any

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import TlsError
from dcrouter.net.dial import connect, open_socket
from dcrouter.net.engine import IN, OUT, WAIT, Task
from dcrouter.net.stream import BULK, GATHER, Plain, Tls
from tests.support.ends import TLS12, TLS13, End, client_context, server_context
from tests.support.joined import Joined
from tests.support.loop import Loop, tcp_pair
from tests.support.peers import require

CUT = "ConnectionResetError('the TLS session was cut off')"


class StreamCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.loop = Loop()
        self.loop.start()
        self.addCleanup(self.loop.engine.stop)

    def pair(self, send_buffer: int = 0) -> tuple[socket.socket, socket.socket]:
        client, side = tcp_pair()
        self.addCleanup(client.close)
        self.addCleanup(side.close)
        for sock in (client, side):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if send_buffer:
            side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        return client, side

    def plain(self, side: socket.socket, serve: Callable[[Plain], Coroutine[Any, None, None]]) -> Task:
        """`serve` a stream on `side`, as a task."""

        def make(task: Task) -> Coroutine[Any, None, None]:
            stream = Plain(task, side, IN | OUT)
            stream.watch()
            return serve(stream)

        return self.loop.engine.spawn(make)

    def secure(
        self,
        serve: Callable[[Tls], Coroutine[Any, None, None]],
        version: int = TLS13,
        send_buffer: int = 0,
        partial: bool = True,
    ) -> End:
        """`serve` a session that has begun; gives the client's end of it."""
        client, side = self.pair(send_buffer)
        begun: list[bool] = []

        async def accept(plain: Plain) -> None:
            stream = Tls(plain, server_context(version, partial), serves=True)
            await stream.handshake()
            begun.append(True)
            await serve(stream)

        self.plain(side, accept)
        end = End(client, SSL.Connection(client_context(version), client))
        assert end.tls is not None
        end.tls.set_connect_state()
        self.loop.until(lambda: end.move() or begun)
        return end


class PlainTests(StreamCase):
    def test_bytes_both_ways_and_the_end(self) -> None:
        seen: list[bytes | None] = []

        async def serve(stream: Plain) -> None:
            seen.append(stream.recv())
            while (data := stream.recv()) != b"":
                if data:
                    stream.send(data.upper())
                await WAIT
            seen.append(b"")
            stream.close()

        client, side = self.pair()
        self.plain(side, serve)
        client.sendall(b"hello")
        self.assertEqual(self.loop.received(client), b"HELLO")
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(self.loop.received(client), b"")
        self.assertEqual(seen, [None, b""])

    def test_a_full_socket_takes_part_and_wakes_when_there_is_room(self) -> None:
        data = random.Random(1).randbytes(3_000_000)
        waits: list[int] = []

        async def serve(stream: Plain) -> None:
            rest = memoryview(data)
            while rest:
                size = stream.send(rest)
                rest = rest[size:]
                if not size:
                    waits.append(len(rest))
                    await WAIT
            stream.close()

        client, side = self.pair(send_buffer=8192)
        self.plain(side, serve)
        self.assertEqual(self.loop.received_all(client), data)
        self.assertTrue(waits)

    def test_close_is_done_once(self) -> None:
        """The number belongs to somebody else by the time of a second close."""
        streams: list[Plain] = []
        woken: list[bytes | None] = []

        async def first(stream: Plain) -> None:
            streams.append(stream)
            stream.close()

        async def second(stream: Plain) -> None:
            await WAIT
            woken.append(stream.recv())

        _, side = self.pair()
        client, other = self.pair()
        number = side.fileno()
        self.plain(side, first)
        self.loop.pass_time(0.1)
        again = socket.socket(fileno=fcntl.fcntl(other.fileno(), fcntl.F_DUPFD_CLOEXEC, number))
        self.addCleanup(again.close)
        self.assertEqual(again.fileno(), number)
        self.plain(again, second)
        streams[0].close()
        streams[0].abort()
        client.sendall(b"x")
        self.loop.until(lambda: woken)
        self.assertEqual(woken, [b"x"])

    def test_abort_is_seen_as_a_reset(self) -> None:
        async def serve(stream: Plain) -> None:
            stream.abort()

        client, side = self.pair()
        self.plain(side, serve)
        self.loop.pass_time(0.1)
        client.setblocking(True)
        self.assertRaises(ConnectionResetError, client.recv, 1)

    def test_peek_leaves_the_bytes_and_low_water_sleeps(self) -> None:
        looks: list[bytes | None] = []

        async def serve(stream: Plain) -> None:
            stream.wake_at(10)
            await WAIT
            looks.append(stream.peek(100))
            stream.wake_at(1)
            await WAIT
            looks.append(stream.recv())
            await WAIT
            looks.append(stream.recv())

        client, side = self.pair()
        self.plain(side, serve)
        client.sendall(b"12345")
        for _ in range(3):
            self.loop.turn()
        self.assertEqual(looks, [])
        client.sendall(b"67890")
        self.loop.until(lambda: len(looks) == 2)
        client.sendall(b"!")
        self.loop.until(lambda: len(looks) == 3)
        self.assertEqual(looks, [b"1234567890", b"1234567890", b"!"])

    def test_gathering_ends_after_a_moment(self) -> None:
        """Fewer bytes than the low-water mark wake nobody by themselves; the nap does."""
        heard: list[bytes | None] = []

        async def serve(stream: Plain) -> None:
            stream.gather()
            await WAIT
            heard.append(stream.recv())
            stream.close()

        client, side = self.pair()
        self.plain(side, serve)
        self.assertEqual(side.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT), GATHER)
        client.sendall(b"few")
        self.loop.until(lambda: heard)
        self.assertEqual(heard, [b"few"])

    def test_connect_to_a_path(self) -> None:
        path = f"\0dcrouter-test-{os.getpid()}"
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(path)
        listener.listen()

        async def serve(task: Task) -> None:
            stream = open_socket(task, socket.AF_UNIX)
            await connect(stream, path)
            stream.send(b"hello")
            stream.close()

        self.loop.engine.spawn(serve)
        side, _ = listener.accept()
        self.addCleanup(side.close)
        self.assertEqual(self.loop.received(side), b"hello")


class HandshakeTests(StreamCase):
    def fails(self, client: Callable[[socket.socket], None]) -> str:
        """What the server's handshake says about `client`."""
        ours, side = self.pair()
        said: list[str] = []

        async def accept(plain: Plain) -> None:
            try:
                await Tls(plain, server_context(), serves=True).handshake()
            except TlsError as error:
                said.append(str(error))
            finally:
                plain.close()

        self.plain(side, accept)
        client(ours)
        self.loop.until(lambda: said)
        return said[0]

    def test_failures_have_names(self) -> None:
        self.assertEqual(self.fails(lambda sock: sock.close()), "the TLS session was cut off")
        self.assertEqual(self.fails(lambda sock: End(sock).reset()), "Connection reset by peer")
        self.assertIn("wrong version number", self.fails(lambda sock: sock.sendall(b"\x16\x01\x00\x00\x01x")))
        self.assertIn("http request", self.fails(lambda sock: sock.sendall(b"GET / HTTP/1.1\r\n\r\n")))

        def old(sock: socket.socket) -> None:
            end = End(sock, SSL.Connection(client_context(TLS12), sock))
            assert end.tls is not None
            end.tls.set_connect_state()
            end.move()

        self.assertIn("unsupported protocol", self.fails(old))


class TlsTests(StreamCase):
    def test_what_openssl_holds_already_counts_as_readable(self) -> None:
        """Law 4: a record that is read in small pieces brings one event only."""
        pieces: list[bytes] = []

        async def serve(stream: Tls) -> None:
            while sum(map(len, pieces)) < 10000:
                data = stream.recv(100)
                if data is None:
                    await WAIT
                    continue
                pieces.append(data)

        for version in (TLS12, TLS13):
            pieces.clear()
            end = self.secure(serve, version)
            end.say(bytes(10000))
            end.move()
            self.loop.until(lambda: sum(map(len, pieces)) == 10000)
            self.assertEqual({len(piece) for piece in pieces}, {100})

    def test_large_writes_through_a_tiny_socket(self) -> None:
        """256 KB at a time, of which OpenSSL takes what fits, or all, in records that the kernel cuts anywhere."""
        data = random.Random(2).randbytes(2_000_000)
        takes: set[int] = set()

        async def serve(stream: Tls) -> None:
            rest = memoryview(data)
            while rest:
                size = stream.send(bytes(rest[:BULK]))  # another buffer with the same bytes at each try
                takes.add(size)
                rest = rest[size:]
                if not size:
                    await WAIT
            while not stream.finish():
                await WAIT

        for version, partial in itertools.product((TLS12, TLS13), (True, False)):
            takes.clear()
            end = self.secure(serve, version, send_buffer=2048, partial=partial)
            end.random_chunks(3)
            self.loop.until(lambda end=end: end.move() and end.over)
            self.assertTrue(end.ended, end.error)
            self.assertEqual(end.got, data)
            self.assertIn(0, takes)
            self.assertEqual(16384 in takes, partial)

    def test_the_failure_of_one_session_is_not_another_ones(self) -> None:
        """OpenSSL has one queue of errors per thread; a failed system call must not stay in it (SSL_get_error(3))."""
        outcomes: list[object] = []

        async def read(stream: Tls) -> None:
            try:
                while True:
                    if data := stream.recv():
                        outcomes.append(data)
                    await WAIT
            except (OSError, TlsError) as error:
                outcomes.append(error)

        async def write(stream: Tls) -> None:
            await WAIT
            try:
                while True:
                    stream.send(bytes(BULK))
            except OSError:
                neighbour.append(1)

        async def end_it(stream: Tls) -> None:
            await WAIT
            stream.plain.ready |= OUT
            stream.finish()
            neighbour.append(1)

        for breaks in (write, end_it):
            for version in (TLS12, TLS13):
                outcomes.clear()
                neighbour: list[int] = []
                innocent = self.secure(read, version)
                broken = self.secure(breaks, version)
                broken.reset()
                self.loop.until(lambda neighbour=neighbour: neighbour)
                innocent.say(b"hello")
                innocent.move()
                self.loop.until(lambda: outcomes)
                innocent.close()
                self.loop.until(lambda: len(outcomes) == 2)
                self.assertEqual([repr(outcome) for outcome in outcomes], ["b'hello'", CUT])

    def test_renegotiation_in_the_middle_of_a_transfer(self) -> None:
        """Law 4: a write that needs to read first waits for IN, even where the other direction reads what it needs."""
        data = random.Random(4).randbytes(3_000_000)
        for kind in ("client", "target"):
            joined = Joined(self.loop, kind, version=TLS12, send_buffer=8192).begin()
            self.addCleanup(joined.close)
            sender, receiver = joined.client, joined.target
            if kind == "client":
                sender, receiver = receiver, sender
            assert receiver.tls is not None
            receiver.random_chunks(5)
            sender.say(data)
            for number in range(1, 5):
                receiver.tls.renegotiate()
                joined.until(lambda number=number, end=receiver: end.count >= number * 500_000)
            joined.until(lambda end=receiver: end.count == len(data))
            self.assertEqual(receiver.got, data)
            self.assertGreater(receiver.tls.total_renegotiations(), 0)
            self.assertIsNone(joined.outcome)

    def test_new_keys_in_the_middle_of_a_transfer(self) -> None:
        """TLS 1.3: a KeyUpdate that asks for one in return is answered while data flows (RFC 8446 4.6.3)."""
        openssl = require("openssl")

        async def echo(stream: Tls) -> None:
            while (data := stream.recv()) != b"":
                if not data:
                    await WAIT
                    continue
                rest = memoryview(data)
                while rest:
                    size = stream.send(rest)
                    rest = rest[size:]
                    if not size:
                        await WAIT
            stream.finish()
            stream.close()

        async def accept(plain: Plain) -> None:
            stream = Tls(plain, server_context(), serves=True)
            await stream.handshake()
            await echo(stream)

        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        client = subprocess.Popen(
            [openssl, "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}", "-tls1_3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        assert client.stdin is not None and client.stdout is not None
        self.addCleanup(client.stdin.close)
        self.addCleanup(client.stdout.close)
        side, _ = listener.accept()
        self.addCleanup(side.close)
        side.setblocking(False)
        self.plain(side, accept)
        os.set_blocking(client.stdout.fileno(), False)
        output = bytearray()

        def said(text: bytes) -> bool:
            output.extend(client.stdout.read() or b"")  # type: ignore[union-attr]
            return text in output

        for number in range(5):
            client.stdin.write(b"line %d\n" % number)
            client.stdin.flush()
            self.loop.until(lambda number=number: said(b"line %d\n" % number))
            client.stdin.write(b"K\n")  # KeyUpdate, with a request for ours
            client.stdin.flush()
            self.loop.until(lambda: said(b"KEYUPDATE"))
            output.clear()
