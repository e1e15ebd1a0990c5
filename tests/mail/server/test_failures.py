"""Bans and slow-downs on a clock that is turned by hand, and the bounds of their tables."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.accounts import AuthFailures
from dcrouter.mail.ledger import WRITE_AFTER
from dcrouter.mail.server import failures
from dcrouter.mail.server.failures import ACQUAINTED, LONGEST_DELAY, UNDELAYED, Failures
from tests.mail.server.guards.made import START, made_ledger

HERE = "192.0.2.1"


class FailuresTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.failures = Failures(AuthFailures(max=3, within=60.0, ban=600.0), self.clock.seconds)

    def fail_once(self, address: str = HERE, account: str = "a@x.example") -> bool:
        return self.failures.failed(address, account)

    def test_so_many_within_a_time_ban_an_address_for_a_time(self) -> None:
        """The last of `max` within `within` does it, for `ban`; then it begins anew."""
        self.assertEqual([self.fail_once() for _ in range(3)], [False, False, True])
        self.assertTrue(self.failures.banned(HERE))
        self.assertFalse(self.failures.banned("192.0.2.2"))
        self.clock.advance(599.9)
        self.assertEqual((self.failures.banned(HERE), self.failures.bans), (True, 1))
        self.clock.advance(0.1)
        self.assertEqual((self.failures.banned(HERE), self.failures.bans), (False, 0))
        self.assertFalse(self.fail_once())

    def test_bans_outlive_the_process(self) -> None:
        """A process that is killed has written them a moment before; their time goes on meanwhile. One that was lifted
        stays so."""
        directory = Path(self.mktemp())
        before, wall = made_ledger(directory, self.clock), lambda: START + self.clock.seconds()
        self.addCleanup(before.close)
        tables = Failures(AuthFailures(max=1, ban=600.0), self.clock.seconds, before, wall)
        tables.open()
        for address in (HERE, "2001:db8::1", "192.0.2.3"):
            tables.failed(address, "")
            self.clock.advance(WRITE_AFTER)
        tables.lift("192.0.2.3")
        self.clock.advance(100)
        after = made_ledger(directory, self.clock)
        self.addCleanup(after.close)
        clock = Clock()
        again = Failures(AuthFailures(max=1, ban=600.0), clock.seconds, after, wall)
        again.open()
        self.assertEqual(again.listed(), [(HERE, 497.0), ("2001:db8::/64", 498.0)])
        clock.advance(497.0)
        self.assertEqual((again.banned(HERE), again.banned("2001:db8::2")), (False, True))

    def test_a_clock_that_was_set_back_between_two_processes_lengthens_no_ban(self) -> None:
        """What is left is at most what it was at first."""
        directory = Path(self.mktemp())
        before = made_ledger(directory, self.clock)
        Failures(AuthFailures(max=1, ban=600.0), self.clock.seconds, before, lambda: START).failed(HERE, "")
        before.close()
        after = made_ledger(directory, self.clock)
        self.addCleanup(after.close)
        again = Failures(AuthFailures(max=1, ban=600.0), self.clock.seconds, after, lambda: START - 86400.0)
        again.open()
        self.assertEqual(again.listed(), [(HERE, 600.0)])

    def test_who_is_banned_for_less_than_others_before_is_so_no_longer(self) -> None:
        """A reload has made bans shorter: those of before last as long as they were to."""
        for address, ban in ((HERE, 600.0), ("192.0.2.2", 60.0)):
            self.failures.reload(AuthFailures(max=1, ban=ban))
            self.assertTrue(self.fail_once(address))
        self.clock.advance(60.0)
        self.assertEqual((self.failures.listed(), self.failures.bans), ([(HERE, 540.0)], 1))
        self.assertEqual((self.failures.lift("192.0.2.2"), self.failures.lift(None)), (0, 1))

    def test_old_failures_do_not_count(self) -> None:
        """A window that moves: three in any sixty seconds."""
        for _ in range(20):
            self.assertFalse(self.fail_once())
            self.clock.advance(30.5)
        self.fail_once()
        self.clock.advance(10)
        self.assertTrue(self.fail_once())

    def test_ipv6_clients_are_counted_by_64(self) -> None:
        """Whoever has a whole prefix does not get a try per address; a mapped address is the IPv4 one."""
        for host in (1, 2, 3):
            self.fail_once(f"2001:db8::{host}")
        self.assertTrue(self.failures.banned("2001:db8::ffff"))
        self.assertFalse(self.failures.banned("2001:db8:0:1::1"))
        for _ in range(3):
            self.fail_once("::ffff:192.0.2.1")
        self.assertTrue(self.failures.banned(HERE))

    def test_who_is_not_bannable_is_not_banned(self) -> None:
        """Trusted networks; the account is slowed all the same."""
        for _ in range(10):
            self.assertFalse(self.failures.failed(HERE, "a@x.example", bannable=False))
        self.assertEqual(self.failures.bans, 0)
        self.assertGreater(self.failures.delay("192.0.2.2", "a@x.example"), 0)

    def test_an_account_is_slowed_longer_and_longer(self) -> None:
        """From many addresses, for any spelling of its name, up to a bound; and no other account."""
        delays = []
        for host in range(12):
            delays.append(self.failures.delay("198.51.100.1", "A@X.example"))
            self.fail_once(f"192.0.2.{host}")
        self.assertEqual(delays[: UNDELAYED + 1], [0.0] * UNDELAYED + [0.5])
        self.assertEqual(delays, sorted(delays))
        self.assertEqual(delays[-1], LONGEST_DELAY)
        self.assertEqual(self.failures.delay("198.51.100.1", "b@x.example"), 0.0)
        self.clock.advance(60)
        self.assertEqual(self.failures.delay("198.51.100.1", "a@x.example"), 0.0)

    def test_nobody_can_slow_an_account_for_its_owner(self) -> None:
        """Where somebody has logged in lately, answers come at once."""
        self.failures.succeeded("198.51.100.7", "a@x.example")
        for host in range(12):
            self.fail_once(f"192.0.2.{host}")
        self.assertEqual(self.failures.delay("198.51.100.7", "A@x.example"), 0.0)
        self.assertEqual(self.failures.delay("198.51.100.8", "a@x.example"), LONGEST_DELAY)
        self.clock.advance(ACQUAINTED)
        self.assertFalse(self.failures.acquainted("198.51.100.7", "a@x.example"))

    def test_all_tables_are_bounded(self) -> None:
        """However many addresses and names there are, and however long those names."""
        for name, value in (
            ("MAX_ADDRESSES", 50), ("MAX_STAMPS", 60), ("MAX_BANS", 20), ("MAX_ACCOUNTS", 40), ("MAX_ACQUAINTANCES", 30)
        ):  # fmt: skip
            self.patch(failures, name, value)
        for number in range(1000):
            address = f"10.0.{number // 250}.{number % 250}"
            for _ in range(number % 4):
                self.fail_once(address, f"{number}" * 1000)
            self.failures.succeeded(address, f"{number}" * 1000)
        tables = self.failures
        self.assertLessEqual(len(tables._by_address), 50)
        self.assertEqual(tables._stamps, sum(map(len, tables._by_address.values())))
        self.assertLessEqual(tables._stamps, 60)
        self.assertEqual((len(tables._bans), len(tables._by_account), len(tables._acquaintances)), (20, 40, 30))
        self.assertTrue(all(len(name) == 16 for name in tables._by_account))
