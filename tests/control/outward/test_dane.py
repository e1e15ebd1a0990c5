from __future__ import annotations

import time
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dcrouter.config.admin import Admin, Config
from dcrouter.config.mail import Email, MailPort
from dcrouter.config.tls import Certificates
from dcrouter.config.tls import Dane as DaneConfig
from dcrouter.control.outward.chosen import Chosen
from dcrouter.control.outward.dane import Dane
from dcrouter.net.resolver import Resolver
from dcrouter.tls.keys import digest
from dcrouter.tls.store import CertificateStore
from tests.support.facts import until
from tests.support.nameserver import Nameserver


class DaneTests(TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        self.server = Nameserver(self)
        resolver = Resolver(self.server.config(), reactor)
        self.addCleanup(resolver.close)
        self.now = time.time()
        self.dane = Dane(reactor, resolver, lambda: self.now)
        self.addCleanup(self.dane.stop)

    def use(self, *, rollover: bool = True) -> CertificateStore:
        ports = (MailPort(port=25, kind="smtp"), MailPort(port=465, kind="smtps"))
        config = Config(
            state_dir=self.directory,
            admin=Admin(socket=self.directory / "admin.sock"),
            certificates=Certificates(dane=DaneConfig(rollover=rollover)),
            email=Email(hostname="Mail.test", ports=ports),
        )
        store = CertificateStore(config, (), lambda: self.now)
        self.credentials = store.load()
        self.dane.use(config, store.keys, Chosen(config, self.credentials))
        return store

    def test_the_record_of_what_is_shown_is_told(self) -> None:
        """For every mail port; with rollovers that of the next key too."""
        self.use(rollover=False)
        key = digest(self.credentials[0].private_key())
        self.assertEqual(
            self.dane.records(),
            [
                {"name": f"_{port}._tcp.mail.test.", "type": "TLSA", "value": f"3 1 1 {key}", "use": "now"}
                for port in (25, 465)
            ],
        )
        store = self.use()
        self.assertEqual(digest(self.credentials[0].private_key()), key)
        following = store.keys.next_of("mail.test").key
        self.assertEqual(
            [(one["name"], one["value"]) for one in self.dane.records() if one["use"] == "next"],
            [(f"_{port}._tcp.mail.test.", f"3 1 1 {following}") for port in (25, 465)],
        )

    async def test_what_dns_has_decides_when_the_next_is_used(self) -> None:
        """Asked on every port, as everybody else asks; records of other kinds are records without the next key."""
        store = self.use()
        now, following = (one["value"] for one in self.dane.records()[1:3])
        self.server.add("_25._tcp.mail.test", "TLSA", now, following, ttl=600)
        self.server.add("_465._tcp.mail.test", "TLSA", "3 1 2 " + "00" * 64, ttl=7200)
        self.dane.start()
        await until(lambda: store.keys.next_of("mail.test").ttl == 7200)
        self.assertEqual([one["published"] for one in self.dane.records() if one["use"] == "next"], [None, None])
        self.dane.stop()
        self.server.add("_465._tcp.mail.test", "TLSA", now, following, ttl=600)
        other = Resolver(self.server.config(), reactor)
        self.addCleanup(other.close)
        again = Dane(reactor, other, lambda: self.now)
        again.use(store.config, store.keys, Chosen(store.config, self.credentials))
        again.start()
        self.addCleanup(again.stop)
        await until(lambda: store.keys.next_of("mail.test").seen)
        self.assertEqual([one["ripe"] for one in again.records() if one["use"] == "next"], [self.now + 7200] * 2)
        self.now += 7200
        renewed = store.internal_ca.issue(["mail.test"], lambda: store.keys.key_for(["mail.test"]), anew=True)
        again.use(store.config, store.keys, Chosen(store.config, [renewed]))
        values = [one["value"] for one in again.records() if one["name"].startswith("_25.")]
        self.assertEqual(values[0], following)
        self.assertNotIn(values[1], (now, following))

    async def test_without_an_answer_nothing_changes(self) -> None:
        """A server that fails is no word about what is published."""
        store = self.use()
        self.server.behave("SERVFAIL")
        self.dane.start()
        await until(lambda: self.server.questions)
        await until(lambda: self.dane._asking is None)
        self.assertIsNone(store.keys.next_of("mail.test").ripe_at())
