from __future__ import annotations

from attrs import evolve
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dcrouter.config.tls import TlsProfile
from dcrouter.control.credentials import PIECE, Credentials, order_of, pieces
from dcrouter.errors import TlsError
from dcrouter.tls.chooser import Chooser
from tests.support.certificates import Authority
from tests.support.facts import until

AUTHORITY = Authority()
ONE, TWO, THREE = (AUTHORITY.credential([f"{name}.test"]) for name in ("one", "two", "three"))


class PiecesTests(TestCase):
    def test_only_what_is_new_is_sent(self) -> None:
        """A renewal among many is one certificate, and the ids of all."""
        self.assertEqual(list(pieces([ONE, TWO], known=[THREE, ONE])), [{"credentials": [TWO.to_plain()]}])
        self.assertEqual(list(pieces([ONE], known=[ONE])), [])

    def test_many_come_in_pieces(self) -> None:
        """No single message holds the child's loop up."""
        many = [evolve(ONE, id=str(number)) for number in range(2 * PIECE + 1)]
        self.assertEqual([len(fields["credentials"]) for fields in pieces(many)], [PIECE, PIECE, 1])


class CredentialsTests(TestCase):
    def setUp(self) -> None:
        self.chooser = Chooser(TlsProfile())
        self.credentials = Credentials(reactor)

    def serves(self, name: str) -> bool:
        try:
            self.chooser.web_context("auto", name, name)
        except TlsError:
            return False
        return True

    async def test_what_stays_is_not_told_again(self) -> None:
        """An order names what was there and what has just arrived; what it leaves out is gone."""
        self.credentials.arrive([ONE.to_plain(), TWO.to_plain()])
        self.credentials.shelve(order_of([ONE, TWO]), self.chooser)
        await until(lambda: self.serves("one.test"))
        self.credentials.arrive([THREE.to_plain()])
        self.credentials.shelve(order_of([THREE, ONE]), self.chooser)
        await until(lambda: self.serves("three.test"))
        self.assertTrue(self.serves("one.test"))
        self.assertFalse(self.serves("two.test"))
        self.assertRaises(KeyError, self.credentials.ordered, order_of([TWO]))

    async def test_the_last_order_counts(self) -> None:
        """One that is still laid out when the next comes is given up."""
        self.credentials.arrive([ONE.to_plain()])
        self.credentials.shelve(order_of([ONE]), self.chooser)
        self.credentials.arrive([TWO.to_plain()])
        self.credentials.shelve(order_of([TWO]), self.chooser)
        await until(lambda: self.serves("two.test"))
        self.assertFalse(self.serves("one.test"))

    async def test_what_has_arrived_for_nothing_is_forgotten(self) -> None:
        """A configuration that was given up takes its certificates with it."""
        self.credentials.arrive([ONE.to_plain()])
        self.credentials.forget_arrived()
        self.assertRaises(KeyError, self.credentials.ordered, order_of([ONE]))
