from __future__ import annotations

import ssl
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.tls import CertificateFiles, TlsProfile
from dcrouter.errors import TlsError
from dcrouter.tls.chooser import Chooser
from dcrouter.tls.credential import Credential
from dcrouter.tls.internal import InternalCa
from tests.support.certificates import Authority
from tests.support.handshake import Server, meet, trusting

AUTHORITY = Authority()
OPERATORS = AUTHORITY.credential(["a.test", "*.a.test"], file="/etc/a.pem")
NARROW = AUTHORITY.credential(["www.a.test"], file="/etc/www.pem")
OWN = AUTHORITY.credential(["own.test"], file="/etc/own.pem", shared=False)
OWN_FILES = CertificateFiles(cert=Path("/etc/own.pem"), key=Path("/etc/own.key"))


class ChooserTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        ca = InternalCa(directory, time.time)
        self.host = ca.issue(["localhost", "mail.test"])
        self.inside = ca.issue(["a.test", "b.test", "**.b.test"])
        self.chooser = Chooser(TlsProfile(), mail_name="mail.test")
        self.chooser.update([OPERATORS, NARROW, OWN, self.host, self.inside])

    def assertShows(self, context: SSL.Context, credential: Credential) -> None:
        """The certificate of a context, as its connections would show it."""
        shown = SSL.Connection(context, None).get_certificate(as_cryptography=True)
        assert shown is not None
        expected = credential.certificates()[0]
        self.assertEqual(shown.public_bytes(Encoding.DER), expected.public_bytes(Encoding.DER))

    def test_an_exact_name_beats_a_wildcard(self) -> None:
        """Names are looked up whatever their case; a wildcard is one label."""
        web = self.chooser.web_context
        self.assertShows(web("auto", "www.a.test", None), NARROW)
        self.assertShows(web("auto", "WWW.A.test", None), NARROW)
        self.assertShows(web("auto", "other.a.test", None), OPERATORS)
        self.assertShows(web("auto", "one.b.test", None), self.inside)

    def test_auto_asks_the_operators_certificates_first(self) -> None:
        """`internal` never does."""
        self.assertShows(self.chooser.web_context("auto", "a.test", None), OPERATORS)
        self.assertShows(self.chooser.web_context("internal", "a.test", None), self.inside)

    def test_a_pair_of_files_is_exactly_that(self) -> None:
        """Whatever the SNI; and nobody else is served from it."""
        self.assertShows(self.chooser.web_context(OWN_FILES, "b.test", "b.test"), OWN)
        self.assertShows(self.chooser.web_context("auto", "own.test", None), self.host)

    def test_without_sni_the_routes_name_counts(self) -> None:
        """As it is written in the file: a wildcard, or `**.`."""
        web = self.chooser.web_context
        self.assertShows(web("auto", None, "www.a.test"), NARROW)
        self.assertShows(web("auto", None, "*.a.test"), OPERATORS)
        self.assertShows(web("auto", "deep.down.b.test", "**.b.test"), self.inside)

    def test_a_route_without_domains_has_the_hosts_names(self) -> None:
        """Certificates that cover the SNI all the same are used."""
        self.assertShows(self.chooser.web_context("auto", None, None), self.host)
        self.assertShows(self.chooser.web_context("auto", "unknown.test", None), self.host)
        self.assertShows(self.chooser.web_context("auto", "a.test", None), OPERATORS)

    def test_nothing_that_fits_is_an_error(self) -> None:
        """The connection's, not the service's."""
        empty = Chooser(TlsProfile())
        self.assertIn("a.test", str(self.assertRaises(TlsError, empty.web_context, "auto", "a.test", None)))
        self.assertRaises(TlsError, empty.web_context, OWN_FILES, "a.test", None)
        self.assertRaises(TlsError, empty.mail_context, None)

    def test_mail_answers_unknown_names_with_its_own(self) -> None:
        """No SNI and a name without certificate: email.hostname's."""
        for sni in (None, "unknown.test"):
            self.assertShows(self.chooser.mail_context(sni), self.host)
        self.assertShows(self.chooser.mail_context("other.a.test"), OPERATORS)

    def test_mail_may_have_a_pair_of_its_own(self) -> None:
        """email.certificate decides."""
        chooser = Chooser(TlsProfile(), mail_name="mail.test", mail_choice=OWN_FILES)
        chooser.update([OWN, self.host])
        self.assertShows(chooser.mail_context("mail.test"), OWN)
        internal = Chooser(TlsProfile(), mail_name="a.test", mail_choice="internal")
        internal.update([OPERATORS, self.inside])
        self.assertShows(internal.mail_context("other.a.test"), self.inside)

    def test_a_context_is_made_once(self) -> None:
        """For each set of credentials and ALPN, whatever the name that led there."""
        web = self.chooser.web_context
        self.assertIs(web("auto", "one.a.test", None), web("auto", "two.a.test", "www.a.test"))
        self.assertIs(web("auto", "a.test", None, ("h2",)), web("auto", "a.test", None, ("h2",)))
        self.assertIsNot(web("auto", "a.test", None, ("h2",)), web("auto", "a.test", None))

    def test_an_update_keeps_the_contexts_of_what_stays(self) -> None:
        """So sessions resume across a reload; what is renewed has a new one, what is gone is gone."""
        kept = self.chooser.web_context("auto", "www.a.test", None)
        before = self.chooser.web_context("auto", "a.test", None)
        renewed = AUTHORITY.credential(["a.test", "*.a.test"], file="/etc/a.pem")
        self.chooser.update([renewed, NARROW])
        self.assertIs(self.chooser.web_context("auto", "www.a.test", None), kept)
        self.assertIsNot(self.chooser.web_context("auto", "a.test", None), before)
        self.assertShows(self.chooser.web_context("auto", "a.test", None), renewed)
        self.assertRaises(TlsError, self.chooser.web_context, "auto", "b.test", None)

    def test_a_session_resumes_after_an_update(self) -> None:
        """Tried with a client, over a socket."""
        client = trusting(AUTHORITY.root_pem)
        first = meet(
            Server(self, self.chooser.web_context("auto", "www.a.test", None)).port, "www.a.test", b"", context=client
        )
        self.chooser.update([NARROW])
        again = meet(
            Server(self, self.chooser.web_context("auto", "www.a.test", None)).port,
            "www.a.test",
            b"",
            context=client,
            session=first.session,
        )
        self.assertTrue(again.resumed)

    def test_key_types_of_one_name_share_a_context(self) -> None:
        """The first of each type in the order of the file."""
        rsa = AUTHORITY.credential(["a.test"], rsa_key=True, file="/etc/rsa.pem")
        late = AUTHORITY.credential(["a.test"], file="/etc/late.pem")
        self.chooser.update([OPERATORS, rsa, late])
        port = Server(self, self.chooser.web_context("auto", "a.test", None)).port
        ciphers = {"ECDHE-ECDSA-AES128-GCM-SHA256": OPERATORS, "ECDHE-RSA-AES128-GCM-SHA256": rsa}
        for cipher, credential in ciphers.items():
            client = trusting(AUTHORITY.root_pem)
            client.maximum_version = ssl.TLSVersion.TLSv1_2
            met = meet(port, "a.test", b"", context=client, ciphers=cipher)
            self.assertEqual(met.leaf, credential.certificates()[0].public_bytes(Encoding.DER))
