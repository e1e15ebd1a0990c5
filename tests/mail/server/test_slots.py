"""Who goes when there are too many sessions, and who does not come in."""

from __future__ import annotations

import contextlib
import socket

from attrs import evolve, field, frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcrouter.config.mail import Email, MailPort
from dcrouter.config.security import Security
from dcrouter.mail.server.slots import Slots, room_for_sessions
from tests.mail.house import House, in_thread
from tests.support.facts import until

MOVES = st.lists(st.tuples(st.sampled_from(("come", "speak", "leave")), st.integers(0, 9), st.booleans()), max_size=60)


@frozen(eq=False)
class Client:
    """A session of this test."""

    port: str
    gone: list[str] = field(factory=list)

    def shed(self) -> None:
        self.gone.append("shed")


class SlotsTests(SynchronousTestCase):
    @given(MOVES, st.integers(1, 5), st.integers(1, 5))
    def test_never_more_than_there_are(self, moves: list[tuple[str, int, bool]], most: int, of_port: int) -> None:
        """Whatever comes in whatever order: bounds hold, only those without EHLO go, the oldest first, and nobody is
        turned away while one of them is there.
        """
        email = Email(hostname="a.test", ports=(MailPort(port=25, max_connections=of_port), MailPort(port=26)))
        slots = Slots(email, most)
        inside: list[Client] = []
        silent: list[Client] = []
        for move, at, other in moves:
            if move == "come":
                client = Client("smtp-26" if other else "smtp-25")
                here = [one for one in silent if one.port == client.port]
                entered = slots.enter(client)
                gone = [one for one in inside if one.gone]
                inside = [one for one in inside if not one.gone]
                silent = [one for one in silent if not one.gone]
                if entered:
                    self.assertLessEqual(len(gone), 2)
                    self.assertTrue(all(one in here or not here or one.port != client.port for one in gone))
                    inside.append(client)
                    silent.append(client)
                else:
                    self.assertEqual(gone, [])
                    self.assertTrue(not silent or (client.port == "smtp-25" and not here))
            elif inside:
                client = inside[at % len(inside)]
                if move == "leave":
                    inside.remove(client)
                    slots.leave(client)
                else:
                    slots.spoke(client)
                silent = [one for one in silent if one is not client]
            self.assertLessEqual(len(inside), most)
            self.assertLessEqual(sum(one.port == "smtp-25" for one in inside), of_port)
            self.assertEqual(slots.status()["silent"], len(silent))

    def test_other_limits_hold_for_those_who_come(self) -> None:
        """A reload that allows fewer cuts nobody; the next one who comes makes the oldest silent one go."""
        email = Email(hostname="a.test")
        slots = Slots(email, 10)
        first, second, third = Client("smtp-25"), Client("smtp-25"), Client("smtp-25")
        self.assertTrue(slots.enter(first) and slots.enter(second))
        slots.reload(evolve(email, security=Security(max_connections=2)))
        self.assertEqual((first.gone, second.gone), ([], []))
        self.assertTrue(slots.enter(third))
        self.assertEqual((first.gone, second.gone, third.gone), (["shed"], [], []))

    def test_descriptors_and_memory_bound_it_in_any_case(self) -> None:
        """A small host has fewer slots than descriptors; a mail half apart no more than its edges can relay."""
        plenty = room_for_sessions(1 << 40, apart=False)
        self.assertEqual(room_for_sessions(64 << 20, apart=False), 256)
        self.assertEqual(room_for_sessions(0, apart=False), 16)
        self.assertLessEqual(room_for_sessions(1 << 40, apart=True), plenty)


class ShedTests(TestCase):
    async def test_the_oldest_without_ehlo_makes_room(self) -> None:
        """421 for the oldest that has said nothing, or nonsense; those who have said EHLO stay and are served; with
        nobody to go it is the newcomer who hears it; in TLS from the first byte the connection just ends.
        """
        house = House(self, security=Security(max_connections=3))
        port, smtps = house.listen(), house.listen("smtps")

        def crowd() -> list[bytes]:
            said = []
            with contextlib.ExitStack() as stack:

                def come(to: int = port) -> socket.socket:
                    return stack.enter_context(socket.create_connection(("127.0.0.1", to), timeout=240))

                def hear(client: socket.socket) -> bytes:
                    return client.recv(1000)[:9]

                honest, silent, garbage = come(), come(), come()
                for one in (honest, silent, garbage):
                    said.append(hear(one)[:4])
                honest.sendall(b"EHLO c\r\n")
                said.append(hear(honest)[:4])
                garbage.sendall(b"\x00\xff nonsense\r\n")
                said.append(hear(garbage)[:4])
                fourth = come()
                said += [hear(silent), silent.recv(1), hear(fourth)[:4]]
                fifth = come(smtps)
                said += [hear(garbage), garbage.recv(1)]
                sixth = come()
                said += [hear(fourth), hear(sixth)[:4]]
                sixth.sendall(b"EHLO c\r\n")
                said.append(hear(sixth)[:4])
                seventh = come()
                with contextlib.suppress(ConnectionResetError):
                    said.append(fifth.recv(1))
                said.append(hear(seventh)[:4])
                seventh.sendall(b"HELO c\r\n")
                said.append(hear(seventh)[:4])
                said += [hear(come()), hear(come(smtps))]
                honest.sendall(b"QUIT\r\n")
                said.append(hear(honest)[:4])
            return said

        said = await in_thread(crowd)
        busy = b"421 4.3.2"
        self.assertEqual(said[:5], [b"220 ", b"220 ", b"220 ", b"250-", b"500 "])
        self.assertEqual(said[5:8], [busy, b"", b"220 "])
        self.assertEqual(said[8:10], [busy, b""])
        self.assertEqual(said[10:13], [busy, b"220 ", b"250-"])
        self.assertEqual([one for one in said[13:-5] if one], [])
        self.assertEqual(said[-5:], [b"220 ", b"250 ", busy, b"", b"221 "])
        await until(lambda: house.mta.status()["connections"] == 0)
        status = house.mta.status()
        self.assertEqual((status["shed"], status["turned_away"], status["silent"]), (4, 2, 0))
        self.assertEqual({event.reason for event in house.closed} >= {"no free slot"}, True)
