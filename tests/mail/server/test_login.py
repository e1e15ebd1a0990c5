"""Who is let in, what wrong passwords lead to, and what is never told: `Login` with hashes that are quick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import formatEvent
from twisted.trial.unittest import TestCase

from dcrouter.config.accounts import Auth, AuthFailures, User
from dcrouter.mail.envelope import Client
from dcrouter.mail.server import failures
from dcrouter.mail.server.gate import WAITING_OF_ONE
from dcrouter.mail.server.login import Login
from dcrouter.mail.server.users import LOOK_AGAIN
from dcrouter.wire.sasl import Credentials
from tests.mail.server.accounts import HASHES
from tests.support.facts import until
from tests.support.logged import logged

ALICE = User(name="alice@x.example", password_hash=HASHES["secret"])
GOOD = Credentials(account="alice@x.example", password="secret")
WRONG = Credentials(account="alice@x.example", password="wr0ng")
HERE = Client(address="192.0.2.1", kind="submission")


class LoginTests(TestCase):
    def login(self, *users: User, **auth: Any) -> Login:
        login = Login(Auth(users=users or (ALICE,), **auth), reactor)
        login.open()
        self.addCleanup(login.close)
        return login

    def replies(self, login: Login, *checks: tuple[Credentials, Client]) -> Deferred[list[bytes]]:
        """Fires with the beginnings of all replies; the checks are made at once."""
        every = [
            login.check(credentials, client, "s").addCallback(lambda one: one.reply[:9])
            for credentials, client in checks
        ]
        return gatherResults(every)

    async def test_a_password_is_right_or_wrong(self) -> None:
        """Names without case; an unknown name, an empty one and a wrong password are answered alike."""
        login = self.login()
        verdict = await login.check(Credentials(account="ALICE@X.example", password="secret"), HERE, "s")
        assert verdict.user is not None
        self.assertEqual((verdict.reply[:9], verdict.user.name), (b"235 2.7.0", "alice@x.example"))
        for name, password in (("alice@x.example", "wr0ng"), ("bob@x.example", "secret"), ("", ""), ("\0", "x" * 9000)):
            verdict = await login.check(Credentials(account=name, password=password), HERE, "s")
            self.assertEqual(verdict, (b"535 5.7.8 Authentication credentials invalid\r\n", None))
        self.assertEqual(login.status(), {"logins": 1, "failed_logins": 4, "banned": 0})

    async def test_nobody_acts_for_another(self) -> None:
        """RFC 4616: the identity to act as is empty or the account's own."""
        login = self.login()
        for other, reply in (("", b"235"), ("Alice@x.example", b"235"), ("bob@x.example", b"535")):
            credentials = Credentials(account="alice@x.example", password="secret", authorize_as=other)
            verdict = await login.check(credentials, HERE, "s")
            self.assertEqual(verdict.reply[:3], reply)

    async def test_what_was_right_a_moment_ago_is_not_hashed_again(self) -> None:
        """The answer is there at once; that to a wrong password never is."""
        login = self.login()
        for credentials, at_once in ((GOOD, [False, True, True]), (WRONG, [False, False])):
            for expected in at_once:
                check = login.check(credentials, HERE, "s")
                self.assertEqual(check.called, expected)
                await check
        self.assertNotIn("secret", repr(login._remembered))

    async def test_a_changed_password_counts_at_once(self) -> None:
        """What is remembered is of the old hash."""
        path = Path(self.mktemp())
        line = "- {{name: alice@x.example, password_hash: {!r}}}\n"
        path.write_text(line.format(HASHES["secret"]))
        login = Login(Auth(users_file=path), reactor)
        login.open()
        self.addCleanup(login.close)
        first = await self.replies(login, (GOOD, HERE))
        path.write_text(line.format(HASHES["other"]) + "\n")
        await deferLater(reactor, LOOK_AGAIN)
        second = await self.replies(login, (GOOD, HERE))
        self.assertEqual(first + second, [b"235 2.7.0", b"535 5.7.8"])

    async def test_where_there_are_no_accounts_nothing_is_offered(self) -> None:
        """Until `users_file` has one."""
        path = Path(self.mktemp())
        path.write_text("[]\n")
        login = Login(Auth(users_file=path), reactor)
        login.open()
        self.addCleanup(login.close)
        self.assertEqual(login.offered(), ())
        self.assertEqual(await self.replies(login, (GOOD, HERE)), [b"535 5.7.8"])
        path.write_text(f"- {{name: alice@x.example, password_hash: {HASHES['secret']!r}}}\n")
        await deferLater(reactor, LOOK_AGAIN)
        self.assertEqual(await self.replies(login, (GOOD, HERE)), [b"235 2.7.0"])
        self.assertEqual(login.offered(), ("PLAIN", "LOGIN"))

    async def test_an_unusable_hash_is_told_and_lets_nobody_in(self) -> None:
        """The operator hears of it."""
        broken = "$argon2id$v=19$m=1,t=1,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A"
        login = self.login(User(name="alice@x.example", password_hash=broken))
        self.assertEqual(await self.replies(login, (GOOD, HERE)), [b"535 5.7.8"])

    async def test_one_address_has_few_hashes_in_the_line(self) -> None:
        """For a name that nobody has as well, whose password is hashed too; others are served."""
        self.patch(failures, "LONGEST_DELAY", 0.0)
        login = self.login()
        unknown = Credentials(account="bob@x.example", password="x")
        for credentials in (WRONG, unknown):
            client = Client(address=f"192.0.2.{ord(credentials.account[0])}", kind="submission")
            there = Client(address="198.51.100.1", kind="submission")
            *many, other = await self.replies(login, *[(credentials, client)] * (WAITING_OF_ONE + 3), (GOOD, there))
            self.assertEqual(many.count(b"454 4.7.0"), 3)
            self.assertEqual(other, b"235 2.7.0")

    async def test_the_line_is_bounded(self) -> None:
        """Beyond it 454 4.7.0, but not for those who have logged in from there before."""
        self.patch(failures, "LONGEST_DELAY", 0.0)
        slow = User(name="alice@x.example", password_hash=HASHES["slow"])
        login = Login(Auth(users=(slow,)), reactor, width=1)
        self.addCleanup(login.close)
        right = Credentials(account="alice@x.example", password="slow")
        other = Credentials(account="Alice@x.example", password="wr0ng")
        await login.check(right, HERE, "s")
        clients = [Client(address=f"10.0.{number // 250}.{number % 250}", kind="smtp") for number in range(150)]
        crowd = [login.check(Credentials(account="b", password="x"), client, "s") for client in clients]
        known = login.check(other, HERE, "s")
        verdicts = await gatherResults(crowd)
        replies = [verdict.reply[:3] for verdict in verdicts]
        self.assertEqual((replies.count(b"535"), replies.count(b"454")), (101, 49))
        self.assertEqual((await known).reply[:3], b"535")

    async def test_many_failures_ban_an_address(self) -> None:
        """421 with the last, 454 after that for the right password too; other addresses are not affected."""
        login = self.login(failures=AuthFailures(max=2))
        there = Client(address="192.0.2.2", kind="submission")
        replies = []
        for credentials, client in ((WRONG, HERE), (WRONG, HERE), (GOOD, HERE), (GOOD, there)):
            replies += await self.replies(login, (credentials, client))
        self.assertEqual(replies, [b"535 5.7.8", b"421 4.7.0", b"454 4.7.0", b"235 2.7.0"])
        self.assertTrue(login.banned(HERE.address))
        self.assertEqual(login.status()["banned"], 1)

    async def test_a_ban_holds_for_what_was_on_its_way(self) -> None:
        """Guesses that were sent at once do not get through behind the one that bans."""
        login = self.login(failures=AuthFailures(max=1))
        replies = await self.replies(login, (WRONG, HERE), (WRONG, HERE), (WRONG, HERE))
        self.assertEqual(replies, [b"421 4.7.0"] * 3)

    async def test_trusted_networks_are_not_banned(self) -> None:
        """One phone with an old password must not take the office's mail away."""
        login = self.login(failures=AuthFailures(max=1))
        office = Client(address="10.0.0.1", kind="submission", trusted=True)
        replies = await self.replies(login, (WRONG, office), (WRONG, office))
        self.assertEqual(replies, [b"535 5.7.8"] * 2)
        self.assertFalse(login.banned(office.address))

    async def test_wrong_passwords_on_an_account_delay_its_answers(self) -> None:
        """Not those to an address from which its owner has logged in; and what waits at the end just ends."""
        self.patch(failures, "FIRST_DELAY", 100.0)
        self.patch(failures, "LONGEST_DELAY", 100.0)
        login = self.login()
        await login.check(GOOD, HERE, "s")
        for host in range(failures.UNDELAYED):
            await login.check(WRONG, Client(address=f"198.51.100.{host}", kind="smtp"), "s")
        late = login.check(GOOD, Client(address="198.51.100.99", kind="smtp"), "s")
        await self.replies(login, (GOOD, HERE), (WRONG, HERE))
        self.assertNoResult(late)

    async def test_a_failure_counts_before_its_answer(self) -> None:
        """Guesses on their way do not outrun their consequences."""
        self.patch(failures, "FIRST_DELAY", 100.0)
        self.patch(failures, "LONGEST_DELAY", 100.0)
        login = self.login(failures=AuthFailures(max=1))
        for host in range(failures.UNDELAYED):
            await login.check(WRONG, Client(address=f"198.51.100.{host}", kind="smtp"), "s")
        late = login.check(WRONG, HERE, "s")
        await until(lambda: login.banned(HERE.address))
        self.assertNoResult(late)

    async def test_thousands_of_wrong_passwords_take_bounded_memory(self) -> None:
        """From as many addresses, on as many names, of any length."""
        for name in ("MAX_ADDRESSES", "MAX_ACCOUNTS", "MAX_BANS"):
            self.patch(failures, name, 100)
        login = self.login(failures=AuthFailures(max=2))
        for number in range(1000):
            client = Client(address=f"2001:db8:{number:x}::1", kind="submission")
            bad = Credentials(account=f"{number}" * 100, password="x")
            await self.replies(login, (bad, client), (bad, client))
        tables = login._failures
        self.assertEqual(login.status()["failed_logins"], 2000)
        self.assertLessEqual(len(tables._by_address), 100)
        self.assertEqual((len(tables._by_account), len(tables._bans)), (100, 100))
        self.assertEqual((len(login._gate._of_owner), login._gate.waiting, len(login._remembered)), (0, 0, 0))

    async def test_logs_name_the_account_and_never_the_password(self) -> None:
        """One line for each outcome, with session and address; names are made printable and short. A name that nobody
        has may be a password: it is told by a number, the same one each time.
        """
        told = logged(self)
        login = self.login(failures=AuthFailures(max=3))
        evil = Credentials(account="evil\r\n\x1b[31m" + "x" * 999, password="wr0ng")
        slips = [Credentials(account=name, password="hunter2") for name in ("Tr0ub4dor", "tr0ub4dor", "hunter3", "")]
        for credentials in (GOOD, WRONG, *slips, evil, WRONG):
            await login.check(credentials, HERE, "s-1")
        lines = [formatEvent(event) for event in told if event.get("session") == "s-1"]
        self.assertEqual(len(lines), 8)
        self.assertEqual(lines[0], "s-1: alice@x.example has logged in from 192.0.2.1")
        self.assertEqual(lines[1], "s-1: login of alice@x.example from 192.0.2.1 by password failed: wrong password")
        self.assertRegex(
            lines[2], "^s-1: login of unknown#[0-9a-f]{8} from 192.0.2.1 by password failed: no such account$"
        )
        self.assertEqual(lines[2], lines[3])
        self.assertNotEqual(lines[2], lines[4])
        self.assertTrue(all(line.isprintable() and len(line) < 140 for line in lines))
        self.assertTrue(any("192.0.2.1 is banned" in formatEvent(event) for event in told))
        everything = repr(told) + "".join(map(formatEvent, told))
        for secret in ("secret", "wr0ng", "hunter2", "hunter3", "ub4dor", "evil"):
            self.assertNotIn(secret, everything)
