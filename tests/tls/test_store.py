from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.acme import Acme
from dcrouter.config.actions import MailHandover, Respond
from dcrouter.config.admin import Admin, Config
from dcrouter.config.mail import Email
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Route, RouteTls, TlsMode
from dcrouter.config.tls import CertificateChoice, CertificateFiles, Certificates
from dcrouter.errors import TlsError
from dcrouter.tls.internal import LEAF_LIFETIME
from dcrouter.tls.store import CertificateStore
from tests.support.certificates import Authority, write
from tests.support.logged import logged

AUTHORITY = Authority()


def route(*domains: str, certificate: CertificateChoice = "auto", mode: TlsMode = "terminate", **keys: Any) -> Route:
    match = Match(ports=(PortRange(start=443, end=443),), domains=domains or None)
    tls = RouteTls(mode=mode, certificate=certificate)
    return Route(**{"name": "r", "match": match, "tls": tls, "action": Respond(), **keys})


class CertificateStoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        self.now = time.time()
        self.events = logged(self)

    def store(
        self, *routes: Route, files: Sequence[CertificateFiles] = (), email: Email | None = None
    ) -> CertificateStore:
        config = Config(
            state_dir=self.directory,
            admin=Admin(socket=self.directory / "admin.sock"),
            certificates=Certificates(files=tuple(files)),
            routes=routes,
            email=email,
        )
        return CertificateStore(config, routes, lambda: self.now)

    def files(self, *names: str, stem: str = "site", days: float = 30) -> CertificateFiles:
        return AUTHORITY.files(self.directory, names, stem=stem, days=days)

    def names(self, *routes: Route, **keys: Any) -> list[tuple[str, tuple[str, ...]]]:
        return [(credential.source, credential.names) for credential in self.store(*routes, **keys).load()]

    def reports(self, level: LogLevel) -> list[dict[str, Any]]:
        return [event for event in self.events if event["log_level"] is level]

    def test_auto_takes_the_operators_certificate_where_it_covers_the_name(self) -> None:
        """By exact name and by wildcard of one label; the rest is the internal CA's."""
        found = self.names(
            route("www.a.test", "a.test", "x.y.a.test", "*.b.test", "**.a.test"),
            files=[self.files("a.test", "*.a.test")],
        )
        self.assertEqual(found, [("file", ("a.test", "*.a.test")), ("internal", ("x.y.a.test", "*.b.test"))])

    def test_internal_is_internal_whatever_the_operator_brings(self) -> None:
        """The choice is the route's."""
        found = self.names(route("a.test", certificate="internal"), files=[self.files("a.test")])
        self.assertEqual(found, [("file", ("a.test",)), ("internal", ("a.test",))])

    def test_a_routes_own_pair_is_its_own(self) -> None:
        """It is loaded once, covers no other route's name, and is not shared."""
        own = self.files("a.test")
        credentials = self.store(
            route("a.test", certificate=own), route("b.test", certificate=own), route("a.test")
        ).load()
        self.assertEqual([(one.source, one.shared) for one in credentials], [("file", False), ("internal", True)])

    def test_a_pair_that_is_listed_and_a_routes_own_is_shared(self) -> None:
        """Being named twice takes nothing away."""
        pair = self.files("a.test")
        credentials = self.store(route("b.test", certificate=pair), route("a.test"), files=[pair]).load()
        self.assertEqual([(one.source, one.shared) for one in credentials], [("file", True)])

    def test_routes_without_domains_get_the_names_of_the_host(self) -> None:
        """Whatever a client on this host may call it, and the mail server's name."""
        ((source, names),) = self.names(route(), email=Email(hostname="mail.test"))[:1]
        self.assertEqual(source, "internal")
        self.assertLessEqual({"localhost", "127.0.0.1", "::1", "mail.test"}, set(names))

    def test_equal_sets_of_names_share_a_leaf(self) -> None:
        """In whatever order they are written."""
        found = self.names(route("a.test", "b.test"), route("b.test", "a.test"), route("a.test"))
        self.assertEqual(found, [("internal", ("a.test", "b.test")), ("internal", ("a.test",))])

    def test_many_names_have_more_than_one_leaf(self) -> None:
        """No client has to take, or gets to see, all names of a large route: OpenSSL's refuse more than 100 KB."""
        names = [f"a-rather-long-name-of-customer-{number}.shop.example.test" for number in range(3000)]
        store = self.store(route(*names), route(*names, certificate="internal"))
        credentials = store.load()
        self.assertEqual([name for one in credentials for name in one.names], names)
        self.assertLess(max(len(one.chain) for one in credentials), 20_000)
        store.renew(names[150])
        again = store.load()
        self.assertEqual([one.id != other.id for one, other in zip(again, credentials, strict=True)].count(True), 1)
        self.assertEqual(len(list(store.listed())), len(credentials))

    def test_mail_gets_a_certificate_for_its_hostname(self) -> None:
        """By the same rules as a route."""
        mail = Email(hostname="mail.test")
        self.assertEqual(self.names(email=mail), [("internal", ("mail.test",))])
        self.assertEqual(self.names(email=mail, files=[self.files("mail.test")]), [("file", ("mail.test",))])
        own = Email(hostname="mail.test", certificate=self.files("other.test"))
        self.assertEqual(self.names(email=own), [("file", ("other.test",))])

    def test_routes_that_do_not_terminate_need_none(self) -> None:
        """Passthrough, mail (whose certificate is email's), and what is switched off."""
        found = self.names(
            route("a.test", mode="passthrough"),
            route("b.test", action=MailHandover()),
            route("c.test", enabled=False),
            route("d.test", tls=None),
        )
        self.assertEqual(found, [])

    def test_every_pair_that_cannot_be_used_is_told_at_once(self) -> None:
        """One line for each."""
        missing = CertificateFiles(cert=self.directory / "no.pem", key=self.directory / "no.key")
        wrong = self.files("a.test")
        wrong.key.write_text("nothing")
        error = self.assertRaises(TlsError, self.store(route(certificate=missing), files=[wrong]).load)
        self.assertEqual(len(str(error).splitlines()), 2)
        self.assertIn(str(missing.cert), str(error))
        self.assertIn(str(wrong.key), str(error))

    def test_an_expired_certificate_is_used_and_told(self) -> None:
        """The service starts; clients will complain."""
        self.assertEqual(len(self.store(files=[self.files("a.test", days=-1)]).load()), 1)
        self.assertEqual([event["file"] for event in self.reports(LogLevel.error)], [str(self.directory / "site.pem")])

    def test_an_end_that_comes_near_is_told_once_each_time(self) -> None:
        """14 and 3 days before, and when it has come; another store of the same service knows what was told."""
        files = self.files("a.test", days=15)
        store = self.store(files=[files])
        store.load()
        self.assertEqual(self.events, [])
        for days, level in ((2, LogLevel.warn), (10.5, LogLevel.warn), (3, LogLevel.error)):
            self.now += days * 86400
            for _ in range(2):
                store.tell_ends()
            config = Config(
                state_dir=self.directory,
                admin=Admin(socket=self.directory / "admin.sock"),
                certificates=Certificates(files=(files,)),
            )
            CertificateStore(config, (), lambda: self.now, store).load()
            self.assertEqual([event["log_level"] for event in self.events], [level])
            self.assertEqual(self.events.pop()["file"], str(files.cert))

    def test_a_new_pair_that_has_expired_is_not_used(self) -> None:
        """While the one before has not: somebody has restored the wrong backup."""
        files = self.files("a.test")
        store = self.store(files=[files])
        good = store.load()
        self.files("a.test", days=-1)
        self.assertEqual(store.load(), good)
        self.assertIn("has expired", self.reports(LogLevel.error)[0]["problem"])

    def test_a_pair_that_cannot_be_read_any_more_stays_in_use(self) -> None:
        """A directory in its place, as good as any other reason; each is told with its file."""
        files = self.files("a.test")
        store = self.store(files=[files])
        good = store.load()
        files.key.unlink()
        files.key.mkdir()
        self.assertTrue(store.changed())
        self.assertEqual(store.load(), good)
        self.assertIn(str(files.key), self.reports(LogLevel.error)[0]["problem"])

    def test_an_internal_ca_that_cannot_write_harms_nobody(self) -> None:
        """Its leaf is used as long as it can be, the operator's files are followed, and it is told once."""
        files = self.files("a.test")
        store = self.store(route("b.test"), files=[files])
        _, inside = store.load()
        leaves = self.directory / "internal-ca" / "leaves"
        shutil.rmtree(leaves)
        leaves.write_text("in the way")
        self.now += LEAF_LIFETIME * 0.7
        replaced = self.files("a.test", days=400)
        for _ in range(2):
            operators, still = store.load()
            self.assertEqual(operators.file, str(replaced.cert))
            self.assertIs(still, inside)
        self.assertEqual(len(self.reports(LogLevel.error)), 1)
        self.assertEqual(self.reports(LogLevel.warn), [])
        for share, told in ((0.82, 0), (0.84, 1), (0.96, 1), (0.97, 2)):
            self.now = inside.not_after - LEAF_LIFETIME * (1 - share)
            store.tell_ends()
            warned = [event["names"] for event in self.reports(LogLevel.warn) if "made anew" in event["log_format"]]
            self.assertEqual(warned, ["b.test"] * told)

    def test_nothing_has_changed_after_loading(self) -> None:
        """The parent may ask every few seconds."""
        store = self.store(route("b.test"), files=[self.files("a.test")])
        store.load()
        self.assertFalse(store.changed())

    def test_a_replaced_pair_is_seen_and_loaded(self) -> None:
        """In place, or by rename."""
        store = self.store(files=[self.files("a.test")])
        ids = {store.load()[0].id}
        self.files("a.test")
        self.assertTrue(store.changed())
        ids.add(store.load()[0].id)
        renamed = self.files("a.test", stem="new")
        renamed.cert.rename(self.directory / "site.pem")
        renamed.key.rename(self.directory / "site.key")
        self.assertTrue(store.changed())
        ids.add(store.load()[0].id)
        self.assertEqual(len(ids), 3)
        self.assertFalse(store.changed())

    def test_a_broken_new_pair_keeps_the_old_one_and_is_reported_once(self) -> None:
        """Half written, not matching, or gone: traffic goes on, and the next good pair is taken."""
        files = self.files("a.test")
        store = self.store(files=[files])
        good = store.load()
        replacement = AUTHORITY.credential(["a.test"])
        files.cert.write_bytes(replacement.chain[:300])
        self.assertTrue(store.changed())
        self.assertEqual(store.load(), good)
        self.assertFalse(store.changed())
        self.assertEqual(len(self.reports(LogLevel.error)), 1)
        files.cert.write_bytes(replacement.chain)
        self.assertEqual(store.load(), good)
        files.key.unlink()
        self.assertEqual(store.load(), good)
        self.assertEqual(len(self.reports(LogLevel.error)), 3)
        self.assertEqual(store.load(), good)
        self.assertEqual(len(self.reports(LogLevel.error)), 3)
        write(replacement, self.directory, "site")
        self.assertTrue(store.changed())
        self.assertEqual([one.chain for one in store.load()], [replacement.chain])

    def test_a_chain_that_is_cut_between_two_certificates(self) -> None:
        """It is half written, whoever issues the new one, and the old one stays in use; a reload takes it at its word.
        Who leaves out a root, or never had intermediates, has cut nothing.
        """
        files = self.files("a.test")
        store = self.store(files=[files])
        good = store.load()
        for authority in (AUTHORITY, Authority()):
            write(authority.credential(["a.test"]), self.directory, "site")
            whole = files.cert.read_bytes()
            files.cert.write_bytes(whole[: whole.index(b"-----BEGIN", 10)])
            self.assertEqual(store.load(), good)
            self.assertIn("half written", self.reports(LogLevel.error)[-1]["problem"])
            again = CertificateStore(store.config, (), lambda: self.now, store).load()
            self.assertNotEqual(again[0].id, good[0].id)
            files.cert.write_bytes(whole)
            good = store.load()
            self.assertEqual(good[0].chain, whole)
        files.cert.write_bytes(whole + authority.root_pem)
        with_root = store.load()
        self.assertEqual(with_root[0].chain, whole + authority.root_pem)
        files.cert.write_bytes(whole)
        self.assertEqual(store.load()[0].id, good[0].id)

    def test_another_configuration_reads_what_is_new(self) -> None:
        """What is in use and unchanged is not read again; what has changed is, and refused where it is bad."""
        files, other = self.files("a.test"), self.files("b.test", stem="other")
        before = self.store(files=[files])
        credential = before.load()[0]
        store = self.store(files=[other, files])
        after = CertificateStore(store.config, (), lambda: self.now, before)
        self.assertIs(after.load()[1], credential)
        files.key.write_text("nothing")
        self.assertRaises(TlsError, CertificateStore(store.config, (), lambda: self.now, before).load)
        self.assertIs(before.load()[0], credential)

    def test_what_acme_has_replaced_is_not_listed(self) -> None:
        """A leaf of the internal CA stands in the list as long as one of its names needs it, or a route asks for it."""
        brought = attrs.evolve(AUTHORITY.credential(["a.test"]), source="acme")
        config = attrs.evolve(
            self.store(route("a.test"), route("a.test", "b.test"), route("c.test", certificate="internal")).config,
            certificates=Certificates(acme=Acme()),
        )
        store = CertificateStore(config, config.routes, lambda: self.now, acme=lambda: (brought,))
        store.load()
        self.assertEqual([one.names for one in store.listed()], [("a.test", "b.test"), ("c.test",)])
        inside = attrs.evolve(config, routes=(route("a.test", certificate="internal"),))
        store = CertificateStore(inside, inside.routes, lambda: self.now, acme=lambda: (brought,))
        store.load()
        self.assertEqual([one.names for one in store.listed()], [("a.test",)])

    def test_an_internal_leaf_is_renewed_in_time(self) -> None:
        """`changed` says when."""
        store = self.store(route("a.test"))
        (first,) = store.load()
        self.now += LEAF_LIFETIME * 0.7
        self.assertTrue(store.changed())
        (second,) = store.load()
        self.assertNotEqual(first.id, second.id)
        self.assertFalse(store.changed())

    def test_no_key_is_logged(self) -> None:
        """Neither by what goes well nor by what does not."""
        files = self.files("a.test")
        store = self.store(route("b.test"), files=[files])
        store.load()
        files.key.write_bytes(files.key.read_bytes()[:150])
        store.load()
        self.assertNotIn("PRIVATE", repr(self.events))
