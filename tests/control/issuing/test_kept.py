"""What is remembered across lives, be they cut short."""

from __future__ import annotations

import stat
import tempfile
import time
from pathlib import Path
from shutil import rmtree

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.control.issuing.kept import FORGOTTEN, Kept
from dcrouter.errors import TlsError
from tests.support.certificates import Authority
from tests.support.logged import logged

WWW = "www.example.com"


class KeptTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.directory)
        self.now = time.time()
        self.kept = Kept(self.directory, lambda: self.now)
        self.events = logged(self)

    def again(self) -> Kept:
        """Another life."""
        kept = Kept(self.directory, lambda: self.now)
        kept.load()
        return kept

    def test_nothing_is_made_before_it_is_needed(self) -> None:
        """A service without automatic certificates has no directory for them."""
        self.kept.load()
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_all_of_it_comes_back(self) -> None:
        """Names as long as names can be, and wildcards; keys are for their owner alone."""
        names = (WWW, "*.example.com", ".".join(["a" * 49] * 5))
        authority, credentials = Authority(), {}
        for name in names:
            record = self.kept.record(name)
            record.failures, record.error, record.window, record.on_demand = 3, "no", [1.0, 2.0], True
            self.kept.save(record)
            credentials[name] = authority.credential([name])
            self.kept.hold(name, credentials[name])
        found = self.kept.directory("https://ca.example.com/dir")
        found.until, found.orders = 12.5, [1.0, 2.0]
        self.kept.save_directories()
        key = self.kept.account_key("https://ca.example.com/dir")
        again = self.again()
        self.assertEqual(again.records, self.kept.records)
        for name in names:
            self.assertEqual(again.credentials[name].chain, credentials[name].chain)
        self.assertEqual({one.source for one in again.credentials.values()}, {"acme"})
        self.assertEqual(again.found, self.kept.found)
        self.assertEqual(again.account_key("https://ca.example.com/dir").private_numbers(), key.private_numbers())
        self.assertNotEqual(again.account_key("https://other.example.com/").private_numbers(), key.private_numbers())
        after = again.next_account_key("https://ca.example.com/dir", make=True)
        for path in self.directory.rglob("*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            self.assertEqual(mode, 0o700 if path.is_dir() else 0o600, path)
        third = self.again()
        self.assertIsNone(third.next_account_key("https://other.example.com/"))
        assert after is not None
        follows = third.next_account_key("https://ca.example.com/dir", make=True)
        self.assertEqual(follows and follows.private_numbers(), after.private_numbers())
        third.account_key_changed("https://ca.example.com/dir")
        self.assertIsNone(third.next_account_key("https://ca.example.com/dir"))
        self.assertEqual(third.account_key("https://ca.example.com/dir").private_numbers(), after.private_numbers())

    def test_what_is_spoilt_is_made_anew(self) -> None:
        """And told; but not an account, which may be worth something."""
        self.kept.save(self.kept.record(WWW))
        self.kept.hold(WWW, Authority().credential([WWW]))
        self.kept.account_key("u")
        for ending in ("pem", "json", "key"):
            for path in self.directory.rglob(f"*.{ending}"):
                path.write_bytes(path.read_bytes()[:40])
        again = self.again()
        self.assertEqual((again.records, again.credentials), ({}, {}))
        self.assertEqual(len(self.events), 2)
        with self.assertRaisesRegex(TlsError, "cut off.*restore it from a backup, or remove it"):
            again.account_key("u")

    def test_nonsense_is_left_aside(self) -> None:
        """Of each file, what can be understood counts."""
        self.kept.save(self.kept.record(WWW))
        path = next(self.directory.rglob("www*.json"))
        path.write_text('{"name": "www.example.com", "failures": "many", "until": 5, "window": ["x"], "more": 1}')
        record = self.again().record(WWW)
        self.assertEqual((record.failures, record.until, record.window), (0, 5, None))
        path.write_text('{"name": "www.example.com", "failures": -1, "renew": 1e999, "issued": NaN, "until": -1}')
        record = self.again().record(WWW)
        self.assertEqual((record.failures, record.renew, record.issued, record.until), (0, 0.0, 0.0, 0.0))
        path.write_text('["www.example.com"]')
        self.assertEqual(self.again().records, {})

    def test_a_clock_that_was_wrong(self) -> None:
        """What was to wait for years does not: nothing would be ordered. A wait that an authority can name is kept."""
        self.kept.record(WWW).until = self.kept.directory("u").until = self.now + 20 * 365 * 86400
        self.kept.record("b.example.com").until = self.kept.directory("v").until = self.now + 7 * 86400
        for record in self.kept.records.values():
            self.kept.save(record)
        self.kept.save_directories()
        again = self.again()
        self.assertEqual((again.record(WWW).until, again.directory("u").until), (0.0, 0.0))
        self.assertEqual(again.record("b.example.com").until, self.now + 7 * 86400)
        self.assertEqual(again.directory("v").until, self.now + 7 * 86400)
        self.assertEqual(len(self.events), 2)

    def test_what_nobody_wants_is_forgotten_in_the_end(self) -> None:
        """Not while it could be of use, or holds somebody back."""
        for name in (WWW, "b.example.com"):
            record = self.kept.record(name)
            record.until = self.now
            self.kept.save(record)
        self.kept.hold(WWW, Authority().credential([WWW], days=1))
        self.now += FORGOTTEN
        self.kept.sweep({"b.example.com"})
        self.assertEqual(set(self.kept.records), {WWW, "b.example.com"})
        self.now += 86401
        self.kept.sweep({"b.example.com"})
        self.assertEqual((set(self.kept.records), self.kept.credentials), ({"b.example.com"}, {}))
        self.assertEqual(list(self.directory.rglob("www*")), [])
