"""TLSA records against chains, RFC 6698, 7671, 7672."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import TlsError
from dcrouter.tls.dane import Tlsa, usable, verify

HOST = "mx.example.test"


class Made:
    """A certificate and its key, signed by another or by itself."""

    def __init__(self, name: str, issuer: Made | None = None, *, ca: bool = False, days: int = 30) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        self.certificate: x509.Certificate = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())

    def record(self, usage: int, selector: int = 1, matching: int = 1) -> Tlsa:
        if selector == 0:
            octets = self.certificate.public_bytes(Encoding.DER)
        else:
            octets = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        digests: dict[int, Any] = {0: lambda data: data, 1: lambda data: hashlib.sha256(data).digest()}
        digests[2] = lambda data: hashlib.sha512(data).digest()
        return Tlsa(usage, selector, matching, digests[matching](octets))


class UsableTests(SynchronousTestCase):
    def test_only_what_means_something_for_mail(self) -> None:
        """RFC 7672 3.1.3: PKIX usages do not count; neither does what nobody knows, nor a digest of a wrong length."""
        good = Tlsa(3, 1, 1, bytes(32)), Tlsa(2, 0, 2, bytes(64)), Tlsa(2, 0, 0, b"x")
        bad = Tlsa(0, 1, 1, bytes(32)), Tlsa(1, 1, 1, bytes(32)), Tlsa(255, 0, 1, bytes(32)), Tlsa(3, 2, 1, bytes(32))
        short = Tlsa(3, 1, 1, bytes(31)), Tlsa(3, 1, 3, bytes(32)), Tlsa(3, 1, 0, b"")
        self.assertEqual(set(usable((*good, *bad, *short))), set(good))
        self.assertEqual(usable(good), usable((*reversed(good), good[0])))


class EndEntityTests(SynchronousTestCase):
    def test_the_servers_own_certificate(self) -> None:
        """RFC 7672 3.1.1: each selector and matching type; whatever its name is, and long after its end."""
        own = Made("somebody.else.test", days=-30)
        for selector in (0, 1):
            for matching in (0, 1, 2):
                verify([own.record(3, selector, matching)], [own.certificate], [HOST])

    def test_another_certificate(self) -> None:
        """One that no record is about is refused, also where one that it has shown besides is meant."""
        own, other = Made(HOST), Made(HOST)
        self.assertRaises(TlsError, verify, [other.record(3)], [own.certificate], [HOST])
        self.assertRaises(TlsError, verify, [other.record(3)], [own.certificate, other.certificate], [HOST])
        self.assertRaises(TlsError, verify, [own.record(3)], [], [HOST])

    def test_one_of_several_is_enough(self) -> None:
        """RFC 7671 8: the old and the next key stand side by side."""
        own, other = Made(HOST), Made(HOST)
        verify([other.record(3), own.record(3)], [own.certificate], [HOST])


class AuthorityTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Made("root", ca=True)
        self.between = Made("between", self.root, ca=True)
        self.own = Made(HOST, self.between)
        self.chain = [self.own.certificate, self.between.certificate, self.root.certificate]

    def test_an_authority_that_it_shows(self) -> None:
        """RFC 7672 3.1.2: the root, or one in between with nobody above it."""
        verify([self.root.record(2)], self.chain, [HOST])
        verify([self.between.record(2, 0, 2)], self.chain[:2], [HOST])

    def test_an_authority_that_dns_holds_whole(self) -> None:
        """RFC 7671 5.2.1: it need not be shown then."""
        verify([self.root.record(2, 0, 0)], self.chain[:2], [HOST])

    def test_an_authority_that_is_not_there(self) -> None:
        """A digest of one that is not shown helps nobody."""
        self.assertRaises(TlsError, verify, [self.root.record(2)], self.chain[:2], [HOST])

    def test_the_name_counts(self) -> None:
        """RFC 7672 3.2.3: that of the host or of the domain."""
        verify([self.root.record(2)], self.chain, ["example.test", HOST])
        self.assertRaises(TlsError, verify, [self.root.record(2)], self.chain, ["mx.other.test"])

    def test_what_it_vouches_for_must_be_valid(self) -> None:
        """An expired certificate, or one that another has signed, is not what the authority stands for."""
        late = Made(HOST, self.between, days=-1)
        self.assertRaises(TlsError, verify, [self.root.record(2)], [late.certificate, *self.chain[1:]], [HOST])
        stranger = Made(HOST)
        self.assertRaises(TlsError, verify, [self.root.record(2)], [stranger.certificate, *self.chain[1:]], [HOST])

    def test_an_authority_is_no_server(self) -> None:
        """A record of usage 2 about the server's own certificate is none about an authority."""
        self.assertRaises(TlsError, verify, [self.own.record(2)], self.chain, [HOST])
