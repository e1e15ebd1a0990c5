"""argon2id hashes: ours, foreign ones, and those of impostors."""

from __future__ import annotations

import threading

from argon2 import PasswordHasher
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.mail.server.passwords import UnusableHash, impostor, make_hash, verify


class PasswordTests(SynchronousTestCase):
    def test_a_hash_is_of_one_password(self) -> None:
        """However its letters are composed; and of no other."""
        hashed = make_hash("p\u00e4ss")
        self.assertTrue(verify(hashed, "pa\u0308ss"))
        for wrong in ("", "p\u00e4s", "P\u00e4ss", "p\u00e4ss ", "x" * 9000):
            self.assertFalse(verify(hashed, wrong))

    def test_hashes_of_any_parameters_work(self) -> None:
        """Weaker and stronger ones, other lengths of salt and digest."""
        for time, memory, lanes, salt, digest in ((1, 8, 1, 8, 16), (3, 1024, 4, 16, 32), (4, 512, 2, 32, 64)):
            hashed = PasswordHasher(time, memory, lanes, digest, salt).hash("secret")
            self.assertTrue(verify(hashed, "secret"))
            self.assertFalse(verify(hashed, "wrong"))

    def test_an_impostor_costs_what_the_original_does(self) -> None:
        """The same parameters and lengths; nobody's password, and another each time."""
        original = PasswordHasher(1, 64, 2, 24, 12).hash("secret")
        one, two = impostor(original), impostor(original)
        self.assertEqual(one.split("$")[:4], original.split("$")[:4])
        self.assertEqual([len(part) for part in one.split("$")], [len(part) for part in original.split("$")])
        self.assertNotEqual(one, two)
        self.assertFalse(verify(one, "secret"))

    def test_a_hash_that_cannot_be_computed_is_an_error(self) -> None:
        """Parameters beyond argon2's bounds: the operator must hear of it, and it is no success."""
        for hashed in (
            "$argon2id$v=19$m=1,t=1,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "$argon2id$v=19$m=64,t=0,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "nonsense",
        ):
            self.assertRaises(UnusableHash, verify, hashed, "secret")

    def test_verifying_lets_go_of_the_gil(self) -> None:
        """Another thread goes on while a slow hash is being computed."""
        hashed = PasswordHasher(8, 64 * 1024, 1).hash("secret")
        ended = threading.Event()

        def compute() -> None:
            verify(hashed, "secret")
            ended.set()

        thread = threading.Thread(target=compute)
        thread.start()
        turns = 0
        while not ended.is_set():
            turns += 1
            ended.wait(0.001)
        thread.join()
        # With the GIL held for all of it there would be one turn or two.
        self.assertGreater(turns, 4)
