"""Logins that a directory knows: a real slapd, in clear and by TLS, names that mean to be filters, and outages."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import formatEvent
from twisted.trial.unittest import TestCase

from dcrouter.config.accounts import Auth, AuthFailures
from dcrouter.config.directory import Ldap, LdapServer
from dcrouter.config.forms import Secret
from dcrouter.mail.envelope import Client
from dcrouter.mail.server import directory as module
from dcrouter.mail.server import failures
from dcrouter.mail.server.claims import Unavailable
from dcrouter.mail.server.directory import Directory
from dcrouter.mail.server.login import Login
from dcrouter.wire.sasl import Credentials
from tests.mail.house import House, in_thread
from tests.mail.server.test_auth import ALICE, MAIL, OURS, client_of
from tests.support.edge import Backend, says
from tests.support.facts import until
from tests.support.logged import logged
from tests.support.slapd import ADMIN, ADMIN_PASSWORD, BASE, Slapd

HERE = Client(address="192.0.2.1", kind="submission")


def hears(sock: socket.socket) -> None:
    """A talk: says nothing."""
    if sock.recv(1 << 20):
        sock.recv(1)


class DirectoryCase(TestCase):
    def slapd(self, *names: str, **options: Any) -> Slapd:
        slapd = Slapd(*names, **options)
        self.addCleanup(slapd.close)
        return slapd

    def config(self, port: int, **more: Any) -> Ldap:
        url = LdapServer(scheme=more.pop("scheme", "ldap"), host=more.pop("host", "127.0.0.1"), port=port)
        more.setdefault("bind_dn", ADMIN)
        more.setdefault("bind_password", Secret(ADMIN_PASSWORD))
        return Ldap(url=url, base_dn=more.pop("base_dn", BASE), **more)

    def directory(self, config: Ldap, **more: Any) -> Directory:
        directory = Directory(config, reactor, **more)
        self.addCleanup(self.ended, directory)
        return directory

    async def ended(self, directory: Directory) -> None:
        directory.abort()
        # What was cut is lost with the reactor's next turns.
        await until(lambda: all(not _connected(one) for one in reactor.getReaders()))

    def check(self, directory: Directory, name: str, password: str) -> Deferred[bool]:
        return Deferred.fromCoroutine(directory.check(name, password)).addCallback(lambda wrong: wrong is None)


def _connected(reader: Any) -> bool:
    return type(getattr(reader, "protocol", None)).__module__ == "dcrouter.mail.server.ldap"


class CheckTests(DirectoryCase):
    async def test_who_is_known(self) -> None:
        """The right password of the one entry; never an empty one, nor a name that several entries have, nor one
        without a password.
        """
        directory = self.directory(self.config(self.slapd().port))
        for name, password, good in (
            ("erin@x.test", "secret", True),
            ("ERIN@x.test", "secret", True),
            ("erin@x.test", "other", False),
            ("erin@x.test", "Secret", False),
            ("erin@x.test", "", False),
            ("frank@x.test", "other", True),
            ("shared@x.test", "other", False),
            ("shared@x.test", "secret", False),
            ("heidi@x.test", "secret", False),
            ("heidi@x.test", "", False),
            ("nobody@x.test", "secret", False),
            ("", "secret", False),
            ("", "", False),
        ):
            self.assertEqual(await self.check(directory, name, password), good, (name, password))

    async def test_a_name_is_no_filter(self) -> None:
        """RFC 4515 3: stars, parentheses, backslashes, NUL and what is no ASCII are characters of the name."""
        directory = self.directory(self.config(self.slapd().port, filter="(|(mail={user})(uid={user}))"))
        for name, good in (
            ("*", False),
            ("e*", False),
            ("erin@x.test)(uid=*", False),
            ("*)(mail=erin@x.test", False),
            ("x)(|(uid=erin", False),
            ("\\2a", False),
            ("erin\0", False),
            ("\ud800\u00e4" * 50, False),
            ("*@x.test", True),
            ("(mail=*)@x.test", True),
            ("back\\slash@x.test", True),
            ("erin", True),
        ):
            self.assertEqual(await self.check(directory, name, "secret"), good, name)

    async def test_filters(self) -> None:
        """Every kind finds what a directory's own client would."""
        port = self.slapd().port
        for text, good in (
            ("(&(objectClass=inetOrgPerson)(mail={user}))", True),
            ("(&(objectClass=organization)(mail={user}))", False),
            ("(&(!(uid=frank))(mail={user}))", True),
            ("(&(uid=*)(mail={user}))", True),
            ("(&(uid=e*i*n)(mail={user}))", True),
            ("(&(uid=e*x*n)(mail={user}))", False),
            ("(&(mail:caseIgnoreIA5Match:={user})(createTimestamp>=20000101000000Z))", True),
            ("(&(uid:dn:=erin)(mail={user}))", True),
            ("(&(cn~=erin)(mail={user}))", True),
            ("(&(createTimestamp<=20000101000000Z)(mail={user}))", False),
        ):
            directory = self.directory(self.config(port, filter=text))
            self.assertEqual(await self.check(directory, "erin@x.test", "secret"), good, text)

    async def test_nobody_looks(self) -> None:
        """Without bind_dn the search is anonymous; where that may see nothing, nobody is found."""
        for anonymous in (True, False):
            config = self.config(self.slapd(anonymous=anonymous).port, bind_dn=None, bind_password=None)
            check = self.check(self.directory(config), "erin@x.test", "secret")
            if anonymous:
                self.assertTrue(await check)
            else:
                await self.assertFailure(check, Unavailable)

    async def test_tls(self) -> None:
        """By ldaps and by StartTLS, with a certificate that is the directory's; else nothing is said to it."""
        slapd = self.slapd("localhost", clear=False)
        for scheme, port in (("ldaps", slapd.tls_port), ("ldap", slapd.port)):
            for host, trust, good in (
                ("localhost", slapd.ca, True),
                ("127.0.0.1", slapd.ca, False),
                ("localhost", None, False),
            ):
                config = self.config(port, scheme=scheme, host=host)
                directory = self.directory(config, trust=trust, secure=True)
                check = self.check(directory, "erin@x.test", "secret")
                if good:
                    self.assertTrue(await check)
                else:
                    await self.assertFailure(check, Unavailable)

    async def test_connections_are_kept_and_bounded(self) -> None:
        """Many logins at once share a few; those that nobody uses go on with the next, also after a restart."""
        self.patch(module, "AT_ONCE", 2)
        self.patch(module, "WAITING", 5)
        slapd = self.slapd()
        directory = self.directory(self.config(slapd.port))
        checks = [self.check(directory, "erin@x.test", "secret") for _ in range(7)]
        refused = self.check(directory, "erin@x.test", "secret")
        await self.assertFailure(refused, Unavailable)
        self.assertEqual(await gatherResults(checks), [True] * 7)
        self.assertEqual((len(directory._open), len(directory._idle), directory._busy), (2, 2, 0))
        for connection, _ in directory._idle:
            connection.transport.loseConnection()
        self.assertTrue(await self.check(directory, "erin@x.test", "secret"))

    async def test_a_directory_that_hangs_keeps_nobody_waiting(self) -> None:
        """Who waits behind its logins is told to come again, and those behind them are served once it answers."""
        self.patch(module, "AT_ONCE", 1)
        self.patch(module, "TURN_WITHIN", 0.3)
        silent = Backend(self, hears)
        directory = self.directory(self.config(silent.port))
        self.patch(module, "WITHIN", 1.5)
        first = self.check(directory, "erin@x.test", "secret")
        await self.assertFailure(self.check(directory, "erin@x.test", "secret"), Unavailable)
        self.assertNoResult(first)
        await self.assertFailure(first, Unavailable)
        self.assertEqual((directory._busy, len(directory._turns), len(directory._open)), (0, 0, 0))

    async def test_outages(self) -> None:
        """Nobody there, one who says nothing, one who speaks something else, a wrong bind_password, a base that is
        not there: nobody can tell, within the time limit; told once, without a password.
        """
        told = logged(self)
        self.patch(module, "WITHIN", 0.5)
        slapd = self.slapd()
        silent = Backend(self, hears)
        others = [
            Backend(self, says(text)).port
            for text in (
                b"HTTP/1.1 400 Bad Request\r\n\r\n",
                b"\x30\x84\xff\xff\xff\xff",
                b"\x30\x05\x02\x01\x07\x61\x00",
            )
        ]
        gone = self.slapd()
        gone.close()
        for config in (
            self.config(gone.port),
            self.config(silent.port),
            *(self.config(port) for port in others),
            self.config(slapd.port, bind_password=Secret("geheim")),
            self.config(slapd.port, base_dn="dc=y"),
            self.config(slapd.port, host="localhost", scheme="ldaps"),
        ):
            directory = self.directory(config)
            for _ in range(2):
                await self.assertFailure(self.check(directory, "erin@x.test", "s3cret"), Unavailable)
        lines = [formatEvent(event) for event in told]
        self.assertEqual(len([line for line in lines if line.startswith("the directory cannot be asked")]), 8, lines)
        everything = "".join(lines) + repr(told)
        for secret in ("geheim", "s3cret", ADMIN_PASSWORD):
            self.assertNotIn(secret, everything)


class LoginTests(DirectoryCase):
    def login(self, config: Ldap, **auth: Any) -> Login:
        login = Login(Auth(ldap=config, **auth), reactor)
        login.open()
        self.addCleanup(login.close)
        return login

    async def reply(self, login: Login, name: str, password: str) -> bytes:
        verdict = await login.check(Credentials(account=name, password=password), HERE, "s")
        return verdict.reply[:9]

    async def test_a_table_and_a_directory(self) -> None:
        """PLAIN and LOGIN alone; a name of the table is the table's, whatever the directory says of it."""
        config = self.config(self.slapd().port)
        frank = ALICE.__class__(name="frank@x.test", password_hash=ALICE.password_hash)
        login = self.login(config, users=(ALICE, frank))
        self.assertEqual(login.offered(), ("PLAIN", "LOGIN"))
        for name, password, expected in (
            ("alice@x.test", "secret", b"235 2.7.0"),
            ("erin@x.test", "secret", b"235 2.7.0"),
            ("frank@x.test", "secret", b"235 2.7.0"),
            ("frank@x.test", "other", b"535 5.7.8"),
            ("nobody@x.test", "secret", b"535 5.7.8"),
            ("erin@x.test", "", b"535 5.7.8"),
        ):
            self.assertEqual(await self.reply(login, name, password), expected, (name, password))

    async def test_failures_and_outages(self) -> None:
        """Wrong ones ban; an outage is 454 4.7.0 and bans nobody; what was right a moment ago stays so; the table's
        people log in all the while.
        """
        self.patch(failures, "LONGEST_DELAY", 0.0)
        slapd = self.slapd()
        login = self.login(self.config(slapd.port), users=(ALICE,), failures=AuthFailures(max=3))
        self.assertEqual(await self.reply(login, "erin@x.test", "secret"), b"235 2.7.0")
        await in_thread(slapd.close)
        for name, expected in (("frank@x.test", b"454 4.7.0"),) * 4 + (
            ("erin@x.test", b"235 2.7.0"),
            ("alice@x.test", b"235 2.7.0"),
        ):
            self.assertEqual(await self.reply(login, name, "secret"), expected)
        self.assertFalse(login.banned(HERE.address))
        again = self.login(self.config(self.slapd().port), failures=AuthFailures(max=2))
        replies = []
        for _ in range(3):
            replies.append(await self.reply(again, "erin@x.test", "wrong"))
        self.assertEqual(replies, [b"535 5.7.8", b"421 4.7.0", b"454 4.7.0"])

    async def test_a_reload_changes_the_directory(self) -> None:
        """What is the same keeps its connections; another one is asked from now on."""
        first, second = self.config(self.slapd().port), self.config(self.slapd().port, filter="(uid={user})")
        login = self.login(first)
        self.assertEqual(await self.reply(login, "erin@x.test", "secret"), b"235 2.7.0")
        before = login._directory
        login.reload(Auth(ldap=first, failures=AuthFailures(max=5)))
        self.assertIs(login._directory, before)
        login.reload(Auth(ldap=second))
        self.assertEqual(await self.reply(login, "erin@x.test", "secret"), b"535 5.7.8")
        self.assertEqual(await self.reply(login, "erin", "secret"), b"235 2.7.0")
        assert before is not None
        await until(lambda: not before._open)

    async def test_as_a_whole(self) -> None:
        """By a real client over TLS: it may send as its own name, and as nobody else."""
        house = House(self, OURS, auth=Auth(ldap=self.config(self.slapd().port)))
        port = house.listen("smtps")

        def act() -> list[int]:
            with client_of(house, port, "smtps") as client:
                client.login("erin@x.test", "secret")
                client.sendmail("erin@x.test", ["b@local.test"], MAIL.replace("alice", "erin"))
                return [client.docmd(f"MAIL FROM:<{one}>")[0] for one in ("frank@x.test", "erin@x.test")]

        self.assertEqual(await in_thread(act), [553, 250])
        await until(lambda: len(house.mails("b@local.test")) == 1)
