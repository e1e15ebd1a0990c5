from __future__ import annotations

import hashlib
import os
import random
import socket

from dcrouter.net.relay import Spliced
from dcrouter.net.stream import BULK, RECV
from tests.support.ends import TLS12, TLS13
from tests.support.joined import KINDS, Joined, RelayCase
from tests.support.loop import tcp_pair


def unix_pair() -> tuple[socket.socket, socket.socket]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    other.setblocking(False)
    return one, other


class HalfCloseTests(RelayCase):
    """Law 8: an end is passed on, and the other direction lives."""

    def test_the_client_may_end_first(self) -> None:
        for kind in KINDS:
            for version in (TLS12, TLS13):
                with self.subTest(kind=kind, version=version):
                    joined = self.join(kind, version=version)
                    joined.client.say(b"request", end=True)
                    joined.until(lambda joined=joined: joined.target.ended)
                    self.assertEqual(joined.target.got, b"request")
                    self.assertIsNone(joined.outcome)
                    joined.target.say(b"response", end=True)
                    joined.run()
                    self.assertEqual(joined.client.got, b"response")
                    self.assertTrue(joined.client.ended, joined.client.error)
                    self.assertEqual(joined.outcome, "client")
                    joined.close()
                    self.assertNothingLeft()

    def test_the_target_may_end_first(self) -> None:
        for kind in KINDS:
            for version in (TLS12, TLS13):
                with self.subTest(kind=kind, version=version):
                    joined = self.join(kind, version=version)
                    joined.target.say(b"greeting", end=True)
                    joined.until(lambda joined=joined: joined.client.ended)
                    self.assertEqual(joined.client.got, b"greeting")
                    self.assertIsNone(joined.outcome)
                    joined.client.say(b"upload" * 100000, end=True)
                    joined.run()
                    self.assertEqual(joined.target.got, b"upload" * 100000)
                    self.assertTrue(joined.target.ended, joined.target.error)
                    self.assertEqual(joined.outcome, "target")
                    joined.close()
                    self.assertNothingLeft()

    def test_an_end_behind_a_full_socket_still_arrives(self) -> None:
        """close_notify needs room like any other record: it waits for it, however exactly the bytes before it fit."""
        for kind in ("client", "client target"):
            for extra in range(0, 40000, 2500):
                with self.subTest(kind=kind, extra=extra):
                    joined = self.join(kind, send_buffer=4096)
                    joined.client.say(b"go")
                    joined.until(lambda joined=joined: joined.target.got == b"go")
                    joined.client.deaf = True
                    joined.target.say(b"x" * extra, end=True)
                    joined.settle()
                    joined.client.deaf = False
                    joined.until(lambda joined=joined: joined.client.over)
                    self.assertTrue(joined.client.ended, joined.client.error)
                    self.assertEqual(joined.client.count, extra)
                    self.assertIsNone(joined.outcome)
                    joined.close()

    def test_a_bare_fin_on_tls_ends_both_directions(self) -> None:
        """Without close_notify nobody knows whether something is missing: that is a cut, not an end."""
        for kind, side in (("client", "client"), ("target", "target"), ("client target", "client")):
            with self.subTest(kind=kind, side=side):
                joined = self.join(kind)
                joined.client.say(b"hello")
                joined.target.say(b"welcome")
                joined.until(lambda joined=joined: joined.target.got and joined.client.got)
                getattr(joined, side).sock.shutdown(socket.SHUT_WR)
                joined.until(lambda joined=joined: joined.outcome is not None)
                self.assertIsInstance(joined.outcome, ConnectionResetError)
                direction = joined.forth if side == "client" else joined.back
                assert direction is not None
                self.assertTrue(direction.source_failed)
                joined.close()
                self.assertNothingLeft()

    def test_what_a_target_has_sent_outlives_it(self) -> None:
        """One that says all and closes is heard to its end, whoever ended first, though a unix socket then reports that
        both of its directions are over (EPOLLHUP) with bytes still to be read.
        """
        data = random.Random(4).randbytes(180_000)  # all leaves the target while the client reads nothing
        for pair in (tcp_pair, unix_pair):
            for kind in KINDS:
                for half_closes in (False, True):
                    with self.subTest(pair=pair.__name__, kind=kind, half_closes=half_closes):
                        joined = self.join(kind, pair=pair, send_buffer=4096)
                        joined.client.say(b"request", end=half_closes)
                        joined.until(lambda joined=joined: joined.target.got == b"request")
                        joined.client.deaf = True
                        joined.target.say(data, end=True)
                        joined.until(lambda joined=joined: joined.target.finished)
                        joined.target.close()
                        joined.settle()
                        joined.client.deaf = False
                        joined.until(lambda joined=joined: joined.client.over)
                        self.assertIsNone(joined.client.error)
                        self.assertEqual(joined.client.got, data)
                        joined.client.close()
                        joined.close()
                        self.assertNothingLeft()

    def test_after_the_end_the_other_side_has_its_own_timeout(self) -> None:
        joined = self.join(idle=5.0, half=1.0)
        joined.client.say(b"", end=True)
        joined.until(lambda: joined.target.ended)
        self.loop.pass_time(0.5)
        self.assertIsNone(joined.outcome)
        self.loop.pass_time(1.0)
        self.assertEqual(joined.outcome.phase, "half_closed")


class BytesTests(RelayCase):
    """Every byte passes, in order, both ways at once, in pieces of any size."""

    def exchange(self, joined: Joined, forth: int, back: int, seed: int = 1) -> None:
        pieces = random.Random(seed)
        request, response = pieces.randbytes(forth), pieces.randbytes(back)
        for end, number in ((joined.client, 2), (joined.target, 3)):
            end.keep = False
            end.random_chunks(seed + number)
        joined.client.say(request, end=True)
        joined.target.say(response, end=True)
        joined.run()
        self.assertIn(joined.outcome, ("client", "target"))
        self.assertEqual((joined.target.count, joined.client.count), (forth, back))
        self.assertEqual(joined.target.hash.digest(), hashlib.sha256(request).digest())
        self.assertEqual(joined.client.hash.digest(), hashlib.sha256(response).digest())
        assert joined.forth is not None and joined.back is not None
        self.assertEqual((joined.forth.count, joined.back.count), (forth, back))
        joined.close()
        self.assertNothingLeft()

    def test_bulk_both_ways_at_once(self) -> None:
        for kind in KINDS:
            for version in (TLS12, TLS13):
                if kind or version == TLS13:
                    with self.subTest(kind=kind, version=version):
                        self.exchange(self.join(kind, version=version), 5_000_000, 5_000_000)

    def test_small_exchanges(self) -> None:
        for kind in KINDS:
            for forth, back in ((0, 0), (1, 0), (0, 1), (RECV - 1, RECV), (RECV, RECV + 1), (BULK, BULK + 1)):
                with self.subTest(kind=kind, forth=forth, back=back):
                    self.exchange(self.join(kind), forth, back)

    def test_bulk_through_tiny_buffers(self) -> None:
        """Partial writes everywhere: of OpenSSL's records, of splices, of sends."""
        for kind in KINDS:
            with self.subTest(kind=kind):
                self.exchange(self.join(kind, send_buffer=2048), 700_000, 700_000)

    def test_unix_sockets(self) -> None:
        self.exchange(self.join(pair=unix_pair), 5_000_000, 5_000_000)

    def test_first_bytes_are_sent_before_anything_else(self) -> None:
        for kind in KINDS:
            for first in (b"PROXY", b"p" * 3 * RECV):
                with self.subTest(kind=kind, size=len(first)):
                    joined = self.join(kind, first=first)
                    joined.client.say(b"request" * 10000, end=True)
                    joined.target.say(b"", end=True)
                    joined.run()
                    self.assertEqual(joined.target.got, first + b"request" * 10000)
                    assert joined.forth is not None
                    self.assertEqual(joined.forth.count, len(first) + 70000)

    def test_from_copy_to_splice_and_back(self) -> None:
        """A direction takes a pipe for bulk only, and gives it back in between."""
        joined = self.join()
        assert isinstance(joined.forth, Spliced)
        expected = b""
        for size in (10, 300_000, 10, 10, 1_000_000, 1, RECV, 5):
            joined.client.say(os.urandom(1) * size)
            expected += bytes(joined.client.out)
            joined.until(lambda expected=expected: len(joined.target.got) == len(expected))
            self.assertEqual(joined.target.got, expected)
            self.assertIsNone(joined.forth._pipe)

    def test_the_last_bytes_of_a_bulk_transfer_are_not_kept_waiting(self) -> None:
        """Its end does not wait for more to gather, nor does what comes then."""
        joined = self.join()
        joined.target.keep = False
        joined.client.say(os.urandom(5_000_001))
        joined.until(lambda: joined.target.count == 5_000_001)
        joined.until(lambda: joined.near.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1)
        joined.client.say(b"!")
        joined.until(lambda: joined.target.count == 5_000_002)
        joined.client.say(os.urandom(RECV), end=True)
        joined.until(lambda: joined.target.ended)
        self.assertEqual(joined.target.count, 5_000_002 + RECV)

    def test_a_sink_that_rests_for_long_goes_on_where_it_stopped(self) -> None:
        for kind in KINDS:
            with self.subTest(kind=kind):
                joined = self.join(kind)
                data = random.Random(4).randbytes(9_000_000)
                joined.target.deaf = True
                joined.client.say(data, end=True)
                joined.settle()
                assert joined.forth is not None
                stopped = joined.forth.count
                self.assertLess(stopped, len(data))
                joined.target.say(b"meanwhile")  # the other direction goes on
                joined.until(lambda joined=joined: joined.client.got == b"meanwhile")
                joined.settle()
                self.assertEqual(joined.forth.count, stopped)
                joined.target.deaf = False
                joined.target.say(b"", end=True)
                joined.run()
                self.assertEqual(joined.target.hash.digest(), hashlib.sha256(data).digest())

    def test_urgent_data_stops_nothing(self) -> None:
        """A read ends at TCP's urgent mark although there is more (tcp(7)): that must not pass for an empty socket."""
        for before in (b"before", b"b" * RECV, b"b" * 3 * RECV, b"b" * 300_000):
            for end in (False, True):
                with self.subTest(before=len(before), end=end):
                    joined = self.join()
                    joined.client.say(before)
                    joined.client.move()
                    while joined.client.out:
                        self.loop.turn()
                        joined.client.move()
                    joined.client.sock.send(b"!", socket.MSG_OOB)
                    joined.client.say(b"after", end=end)
                    joined.client.move()
                    joined.until(lambda joined=joined: joined.target.got.endswith(b"after"))
                    self.assertEqual(joined.target.got, before + b"after")
                    if end:
                        joined.until(lambda joined=joined: joined.target.ended)
                    joined.close()
