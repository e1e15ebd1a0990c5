"""Long sequences of requests of every kind in pieces of every size: each answer belongs to its question."""

from __future__ import annotations

import random
import socket
import threading

from tests.support.relay import RelayTest
from tests.support.web import Message, Wire, http, ok, request

SEED = 20261121


def chunked(random_: random.Random, data: bytes) -> bytes:
    out = b""
    while data:
        size = random_.randint(1, 5000)
        piece, data = data[:size], data[size:]
        out += b"%x\r\n%b\r\n" % (len(piece), piece)
    return out + b"0\r\n\r\n"


def in_pieces(random_: random.Random, sock: socket.socket, data: bytes) -> None:
    """Send `data` cut anywhere."""
    while data:
        size = random_.choice((1, 2, 7, 100, 5000, 100_000))
        sock.sendall(data[:size])
        data = data[size:]


class SequenceTests(RelayTest):
    def answer(self, random_: random.Random, asked: Message) -> bytes:
        """Number and content of the request, framed in one way or another."""
        number = asked.first.split(b" ")[1][1:]
        body = number + b":" + asked.content
        interim = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * random_.choice((0, 0, 0, 1, 2))
        match random_.randint(0, 5):
            case 0:
                return interim + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(random_, body)
            case 1:
                return interim + ok(body, b"Connection: close")
            case _:
                return interim + ok(body)

    def test_answers_belong_to_their_questions(self) -> None:
        """Four clients, pipelined and in pieces, on targets that answer in pieces and close now and then."""
        lock = threading.Lock()
        seeds = iter(range(SEED, SEED + 10_000))

        def serve(wire: Wire) -> None:
            with lock:
                own = random.Random(next(seeds))
            while True:
                asked = wire.message()
                said = self.answer(own, asked)
                in_pieces(own, wire.sock, said)
                if b"Connection: close" in said:
                    return

        port = self.relay(http(serve))
        count = 25

        def client(number: int) -> None:
            own = random.Random(number)
            bodies = [own.randbytes(own.choice((0, 0, 1, 300, 20_000, 150_000))) for _ in range(count)]
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                wire = Wire(sock)

                def ask() -> None:
                    for at, body in enumerate(bodies):
                        first = b"%b /%d-%d HTTP/1.1" % (own.choice((b"PUT", b"POST")), number, at)
                        if own.random() < 0.5:
                            data = request(b"Transfer-Encoding: chunked", first=first) + chunked(own, body)
                        else:
                            data = request(first=first, body=body)
                        in_pieces(own, sock, data)

                asking = threading.Thread(target=ask, daemon=True)
                asking.start()
                for at, body in enumerate(bodies):
                    while (answer := wire.message()).status == 103:
                        pass
                    if answer.status != 200 or answer.content != b"%d-%d:" % (number, at) + body:
                        raise AssertionError((number, at, answer.head, len(answer.content), len(body)))
                asking.join(60)

        problems: list[BaseException] = []

        def run() -> None:
            def guarded(number: int) -> None:
                try:
                    client(number)
                except BaseException as error:
                    problems.append(error)

            threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)

        self.client(run)
        self.assertEqual(problems, [])
        self.loop.until(lambda: len(self.requests) >= 4 * count)
        self.assertEqual({done.termination for done in self.requests}, {"done"})
        self.assertEqual(len(self.requests), 4 * count)
