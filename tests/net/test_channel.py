from __future__ import annotations

import array
import fcntl
import json
import os
import random
import resource
import select
import socket
import threading
import time
from typing import Any

from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.net.channel import HEAD, MAX_FILES, MAX_FRAME, Channel, pack
from tests.support.ends import descriptors
from tests.support.loop import DEADLINE


class ChannelCase(SynchronousTestCase):
    """Two channels over a real socketpair, whose reactor is turned by hand."""

    def setUp(self) -> None:
        self.open = descriptors()
        self.reactor: Any = MemoryReactor()
        self.messages: list[tuple[str, dict[str, Any], list[int]]] = []
        self.lost: list[str] = []
        ours, theirs = socket.socketpair()
        self.ours = Channel(self.reactor, ours, self.unexpected, self.lost.append)
        self.theirs = Channel(
            self.reactor, theirs, lambda kind, fields, fds: self.messages.append((kind, fields, fds)), self.lost.append
        )
        self.ours.start()
        self.theirs.start()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def unexpected(self, kind: str, fields: dict[str, Any], fds: list[int]) -> None:
        self.fail(f"nobody said {kind}")

    def turn(self) -> None:
        """What a reactor does when it comes round once."""
        poll = select.poll()
        selectables = {}
        for one in (self.ours, self.theirs):
            events = select.POLLIN * (one in self.reactor.readers) | select.POLLOUT * (one in self.reactor.writers)
            if events and one.fileno() != -1:
                poll.register(one.fileno(), events)
                selectables[one.fileno()] = one
        for fd, what in poll.poll(10):
            one = selectables[fd]
            if what & (select.POLLIN | select.POLLHUP) and one in self.reactor.readers:
                one.doRead()
            if what & (select.POLLOUT | select.POLLERR) and one in self.reactor.writers:
                one.doWrite()

    def until(self, fact: Any) -> None:
        end = time.monotonic() + DEADLINE
        while not fact():
            self.assertLess(time.monotonic(), end)
            self.turn()

    def assertNothingLeft(self) -> None:
        self.ours.close()
        self.theirs.close()
        self.assertEqual(descriptors() - self.open, set())


class FrameTests(ChannelCase):
    def test_a_message_arrives_as_it_was_sent(self) -> None:
        fields = {"text": "ä\n\0", "number": 1.5, "list": [1, None, True], "deep": {"a": {"b": []}}}
        self.ours.send("kind", fields)
        self.ours.send("empty")
        self.until(lambda: len(self.messages) == 2)
        self.assertEqual(self.messages, [("kind", fields, []), ("empty", {}, [])])

    def test_frames_cut_at_every_byte(self) -> None:
        """However the kernel cuts the stream, each message arrives once and whole."""
        stream = pack("one", {"a": 1}, 0) + pack("two", {}, 0) + pack("three", {"text": "x" * 40}, 0)
        whole: list[tuple[str, dict[str, Any], list[int]]] = [
            ("one", {"a": 1}, []),
            ("two", {}, []),
            ("three", {"text": "x" * 40}, []),
        ]
        sock = self.ours.sock
        for cut in range(1, len(stream)):
            self.messages.clear()
            sock.send(stream[:cut])
            self.theirs.doRead()
            sock.send(stream[cut:])
            self.theirs.doRead()
            self.assertEqual(self.messages, whole, f"cut at {cut}")
        self.messages.clear()
        for byte in stream:
            sock.send(bytes((byte,)))
            self.theirs.doRead()
        self.assertEqual(self.messages, whole)
        self.assertEqual(self.lost, [])

    def test_fifty_megabytes(self) -> None:
        """A configuration is one message; what comes after it keeps its place."""
        text = random.Random(1).randbytes(25_000_000).hex()
        self.ours.send("config", {"text": text})
        self.ours.send("go")
        self.assertEqual(self.ours.waiting, 2)
        self.until(lambda: len(self.messages) == 2)
        self.assertTrue(self.messages[0][1]["text"] == text)
        self.assertEqual(self.messages[1][0], "go")
        self.assertEqual(self.ours.waiting, 0)
        self.assertNotIn(self.ours, self.reactor.writers)

    def test_waiting_tells_when_the_other_end_does_not_read(self) -> None:
        sent = 0
        while not self.ours.waiting:
            self.ours.send("line", {"number": sent, "text": "x" * 1000})
            sent += 1
        for _ in range(20):
            self.ours.send("line", {"number": sent, "text": "x" * 1000})
            sent += 1
        self.assertEqual(self.ours.waiting, 21)
        self.until(lambda: len(self.messages) == sent)
        self.assertEqual([fields["number"] for _, fields, _ in self.messages], list(range(sent)))
        self.assertEqual(self.ours.waiting, 0)


class FileTests(ChannelCase):
    def make_file(self, text: str) -> int:
        fd = os.memfd_create("test")
        os.write(fd, text.encode())
        return fd

    def test_files_travel_beside_their_message(self) -> None:
        """Among messages of all sizes and without files: each gets its own, exactly as many, closed on exec."""
        chance = random.Random(2)
        expected = []
        for number in range(400):
            count = chance.choice((0, 0, 1, 2, 7))
            names = [f"{number}/{index}" for index in range(count)]
            fds = [self.make_file(name) for name in names]
            self.ours.send("files", {"names": names, "text": "x" * chance.choice((0, 10, 5000, 150_000))}, fds)
            for fd in fds:
                os.close(fd)
            expected.append(names)
            if chance.random() < 0.3:
                self.turn()
        self.until(lambda: len(self.messages) == 400)
        for (_, fields, fds), names in zip(self.messages, expected, strict=True):
            self.assertEqual(fields["names"], names)
            self.assertEqual([os.pread(fd, 100, 0).decode() for fd in fds], names)
            for fd in fds:
                self.assertTrue(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
                os.close(fd)
        self.assertNothingLeft()

    def test_as_many_files_as_allowed_and_no_more(self) -> None:
        fd = self.make_file("one")
        self.addCleanup(os.close, fd)
        self.ours.send("many", {}, [fd] * MAX_FILES)
        self.until(lambda: self.messages)
        self.assertEqual(len(self.messages[0][2]), MAX_FILES)
        for received in self.messages[0][2]:
            os.close(received)
        self.assertRaises(ValueError, self.ours.send, "many", {}, [fd] * (MAX_FILES + 1))

    def test_files_that_nobody_has_taken_are_closed(self) -> None:
        fd = self.make_file("one")
        while not self.ours.waiting:
            self.ours.send("file", {"text": "x" * 10000}, [fd])
        self.ours.send("file", {}, [fd])
        os.close(fd)
        self.theirs.sock.recvmsg(100, 0)  # the beginning of a frame is lost; so is its file
        self.assertNothingLeft()

    def test_files_that_wait_when_descriptors_run_out(self) -> None:
        """Half of the copies would be a leak: there are all of them or none."""
        fds = [self.make_file("a"), self.make_file("b")]
        while not self.ours.waiting:
            self.ours.send("line", {"text": "x" * 10000})
        waiting = self.ours.waiting
        before = descriptors()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(fds[0])
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
        try:
            self.assertRaises(OSError, self.ours.send, "files", {}, fds)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.assertEqual(descriptors() - before, set())
        self.assertEqual(self.ours.waiting, waiting)
        for fd in fds:
            os.close(fd)

    def test_files_lost_on_the_way_end_the_channel(self) -> None:
        """Where the receiver has no descriptors left the kernel drops files: later ones would go to wrong messages."""
        fd = self.make_file("one")
        self.addCleanup(os.close, fd)
        self.ours.send("files", {}, [fd] * 3)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(fd)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
        try:
            self.theirs.doRead()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.assertEqual(self.messages, [])
        self.assertEqual(len(self.lost), 1)
        self.assertIn("limit of open files", self.lost[0])


class BrokenTests(ChannelCase):
    def test_a_frame_that_breaks_the_format_ends_the_channel(self) -> None:
        def frame(payload: bytes, files: int = 0) -> bytes:
            return HEAD.pack(len(payload), files) + payload

        for name, data in (
            ("too long", HEAD.pack(MAX_FRAME + 1, 0)),
            ("too many files", HEAD.pack(2, MAX_FILES + 1)),
            ("not JSON", frame(b"{")),
            ("not UTF-8", frame(b'["\xff",{}]')),
            ("nested without end", frame(b"[" * 200_000)),
            ("no pair", frame(b"[1]")),
            ("a number", frame(b"1")),
            ("a string of two letters", frame(b'"ab"')),
            ("an object of two keys", frame(b'{"a":1,"b":2}')),
            ("no kind", frame(b"[1,{}]")),
            ("no fields", frame(b'["kind",[]]')),
            ("no files", frame(b'["kind",{}]', 1)),
        ):
            with self.subTest(name):
                self.setUp()
                self.ours.sock.setblocking(True)
                self.ours.sock.sendall(data)
                self.until(lambda: self.lost)
                self.assertEqual(self.messages, [])
                self.assertEqual(len(self.lost), 1)
                self.assertEqual(self.theirs.fileno(), -1)
                self.assertNothingLeft()

    def test_files_without_a_message_end_the_channel(self) -> None:
        """One too many would be taken for the next message's."""
        payload = json.dumps(["kind", {}]).encode()
        with open(os.devnull) as file:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()] * 2))]
            self.ours.sock.sendmsg([HEAD.pack(len(payload), 1) + payload], ancillary)
        self.until(lambda: self.lost)
        self.assertEqual(self.messages, [])
        self.assertNothingLeft()

    def test_the_other_end_closes(self) -> None:
        """What it said before still arrives; `lost` comes once."""
        self.ours.send("last words")
        self.ours.sock.send(pack("half", {}, 0)[:5])
        self.ours.close()
        self.until(lambda: self.lost)
        self.assertEqual([kind for kind, _, _ in self.messages], ["last words"])
        self.assertEqual(self.lost, ["the other end closed"])
        self.assertFalse(self.reactor.readers)
        self.theirs.send("too late")
        self.assertEqual(self.theirs.waiting, 0)

    def test_send_after_the_peer_died_does_not_raise(self) -> None:
        self.theirs.sock.close()
        self.reactor.removeReader(self.theirs)
        with open(os.devnull) as file:
            self.ours.send("hello", {}, [file.fileno()])
            self.ours.send("hello again", {}, [file.fileno()])
        self.assertEqual(self.lost, [])  # not inside of the caller's own work
        self.until(lambda: self.lost)
        self.assertEqual(len(self.lost), 1)
        self.ours.send("nobody hears")
        self.assertNothingLeft()

    def test_a_sender_that_does_not_read_learns_it_too(self) -> None:
        self.reactor.removeReader(self.ours)
        self.theirs.close()
        self.ours.send("hello")
        self.until(lambda: self.lost)
        self.assertEqual(len(self.lost), 1)

    def test_a_receiver_may_close_in_the_middle(self) -> None:
        self.ours.send("first")
        self.ours.send("second")
        seen: list[str] = []

        def close(kind: str, fields: dict[str, Any], fds: list[int]) -> None:
            seen.append(kind)
            self.theirs.close()

        self.theirs.received = close
        self.theirs.doRead()
        self.assertEqual(seen, ["first"])
        self.assertEqual(self.lost, [])


class FlushTests(ChannelCase):
    def test_everything_that_waits_is_written(self) -> None:
        """Frames larger than the kernel's buffer, with files, in order, to a peer that reads slowly."""
        with open(os.devnull) as file:
            for number in range(10):
                self.ours.send("last", {"number": number, "text": "x" * 500_000}, [file.fileno()])
        self.assertTrue(self.ours.waiting)
        taken = threading.Thread(target=self.take, args=(10,))
        taken.start()
        self.ours.flush(DEADLINE)
        taken.join()
        self.assertEqual([fields["number"] for _, fields, _ in self.messages], list(range(10)))
        self.assertEqual(self.ours.waiting, 0)
        for _, _, fds in self.messages:
            self.assertEqual(len(fds), 1)
            os.close(fds[0])
        self.assertNothingLeft()

    def take(self, count: int) -> None:
        while len(self.messages) < count and not self.lost:
            select.select([self.theirs.sock], [], [], DEADLINE)
            self.theirs.doRead()

    def test_what_does_not_fit_in_time_is_kept(self) -> None:
        """A flush that ran out of time leaves the channel as it was: not blocking, in order, nothing lost."""
        for number in range(3):
            self.ours.send("line", {"number": number, "text": "x" * 500_000})
        self.ours.flush(0.05)
        self.assertTrue(self.ours.waiting)
        self.assertFalse(self.ours.sock.getblocking())
        self.until(lambda: len(self.messages) == 3)
        self.assertEqual([fields["number"] for _, fields, _ in self.messages], [0, 1, 2])

    def test_to_a_dead_peer_it_gives_up(self) -> None:
        with open(os.devnull) as file:
            self.ours.send("line", {"text": "x" * 5_000_000}, [file.fileno()])
            self.ours.send("line", {}, [file.fileno()])
        self.theirs.close()
        self.ours.flush(DEADLINE)
        self.assertEqual(self.lost, [])
        self.ours.close()
        self.ours.flush(DEADLINE)
        self.assertNothingLeft()
