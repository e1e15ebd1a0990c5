"""Signatures, names of certificates, proofs and times: values that others compute too."""

from __future__ import annotations

import contextlib
import hmac
import json
from base64 import urlsafe_b64decode
from email.utils import formatdate
from hashlib import sha256
from ipaddress import ip_address

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import AcmeError
from dcrouter.tls.acme.answers import LONGEST_RETRY, Answer, seconds_of
from dcrouter.tls.acme.certificate import certificate_id
from dcrouter.tls.acme.challenges import dns_value, tls_alpn_certificate
from dcrouter.tls.acme.directory import Directory
from dcrouter.tls.acme.external import ExternalAccount
from dcrouter.tls.acme.jws import AccountKey, Signer, b64
from dcrouter.tls.acme.problems import problem_of
from dcrouter.tls.acme.renewal import RenewalInfo
from tests.support.certificates import Authority

KEYS = st.sampled_from(
    [
        "type",
        "detail",
        "subproblems",
        "identifier",
        "value",
        "instance",
        "meta",
        "profiles",
        "newNonce",
        "newAccount",
        "newOrder",
        "renewalInfo",
        "status",
        "suggestedWindow",
        "start",
        "end",
        "explanationURL",
        "termsOfService",
    ]
)


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class SignatureTests(SynchronousTestCase):
    def test_others_verify_them(self) -> None:
        """PyJWT takes each algorithm's signature by the JWK that is shown, and takes it for nothing else."""
        keys: tuple[tuple[AccountKey, str], ...] = (
            (ec.generate_private_key(ec.SECP256R1()), "ES256"),
            (ec.generate_private_key(ec.SECP384R1()), "ES384"),
            (rsa.generate_private_key(65537, 2048), "RS256"),
        )
        for key, algorithm in keys:
            signer = Signer(key)
            jws = signer.sign({"url": "https://ca.test/x", "jwk": signer.jwk}, {"a": 1})
            compact = ".".join((jws["protected"], jws["payload"], jws["signature"]))
            shown = jwt.PyJWK(signer.jwk, algorithm)
            self.assertEqual(json.loads(jwt.PyJWS().decode(compact, shown, [algorithm])), {"a": 1})
            self.assertEqual(shown.key.public_numbers(), key.public_key().public_numbers())
            with self.assertRaises(jwt.InvalidSignatureError):
                jwt.PyJWS().decode(compact, jwt.PyJWK(Signer(like(key)).jwk, algorithm), [algorithm])

    def test_thumbprint(self) -> None:
        """Of the members that RFC 7638 section 3.2 requires, in order and without blanks."""
        signer = Signer(ec.generate_private_key(ec.SECP256R1()))
        text = '{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}'.format(signer.jwk["x"], signer.jwk["y"])
        self.assertEqual(signer.thumbprint, b64(sha256(text.encode()).digest()))
        self.assertEqual(signer.key_authorization("t"), f"t.{signer.thumbprint}")

    def test_an_empty_payload_is_not_an_empty_object(self) -> None:
        """POST-as-GET has octets of length zero, an answer to a challenge `{}`."""
        signer = Signer(ec.generate_private_key(ec.SECP256R1()))
        self.assertEqual(signer.sign({}, None)["payload"], "")
        self.assertEqual(decoded(signer.sign({}, {})["payload"]), b"{}")

    def test_keys_that_no_ca_takes(self) -> None:
        """Are refused before anybody is asked."""
        for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP521R1())):
            with self.assertRaises(ValueError):
                Signer(key)


def like(key: AccountKey) -> AccountKey:
    """Another key of the same kind."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return ec.generate_private_key(key.curve)
    return rsa.generate_private_key(65537, 2048)


class ExternalTests(SynchronousTestCase):
    def test_binding(self) -> None:
        """HS256 over algorithm, id and URL, and the public key as payload (RFC 8555 section 7.3.4)."""
        jws = ExternalAccount(key_id="k", hmac_key=b"secret").binding("https://ca.test/new", {"kty": "EC"})
        self.assertEqual(json.loads(decoded(jws["payload"])), {"kty": "EC"})
        expected = {"alg": "HS256", "kid": "k", "url": "https://ca.test/new"}
        self.assertEqual(json.loads(decoded(jws["protected"])), expected)
        mac = hmac.digest(b"secret", f"{jws['protected']}.{jws['payload']}".encode(), "sha256")
        self.assertEqual(decoded(jws["signature"]), mac)


class CertificateIdTests(SynchronousTestCase):
    def leaf(self, serial: int, issuer: bytes | None) -> x509.Certificate:
        authority = Authority()
        leaf = authority.credential(["a.test"]).certificates()[0]
        key = ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateBuilder(
            leaf.issuer, leaf.subject, key.public_key(), serial, leaf.not_valid_before_utc, leaf.not_valid_after_utc
        )
        if issuer is not None:
            builder = builder.add_extension(x509.AuthorityKeyIdentifier(issuer, None, None), critical=False)
        return builder.sign(key, SHA256())

    def test_the_example(self) -> None:
        """Of RFC 9773 section 4.1: the serial number keeps the zero that its highest bit asks for."""
        issuer = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
        self.assertEqual(certificate_id(self.leaf(0x87654321, issuer)), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
        self.assertEqual(certificate_id(self.leaf(0x7F, issuer)), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.fw")

    def test_one_without_a_name(self) -> None:
        """Has no identifier of its authority's key."""
        self.assertIsNone(certificate_id(self.leaf(1, None)))


class ProofTests(SynchronousTestCase):
    def test_tls_alpn(self) -> None:
        """One name or address, and the critical extension with the digest (RFC 8737 section 3)."""
        address = x509.IPAddress(ip_address("2001:db8::1"))
        for name, general in (("a.test", x509.DNSName("a.test")), ("2001:db8::1", address)):
            pem, key = tls_alpn_certificate(name, "token.thumb")
            leaf = x509.load_pem_x509_certificate(pem)
            alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            self.assertEqual(list(alternative), [general])
            extension = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
            self.assertTrue(extension.critical)
            assert isinstance(extension.value, x509.UnrecognizedExtension)
            self.assertEqual(extension.value.value, b"\x04\x20" + sha256(b"token.thumb").digest())
            self.assertIn(b"PRIVATE KEY", key)

    def test_dns(self) -> None:
        """43 characters, of RFC 8555 section 8.4."""
        self.assertEqual(decoded(dns_value("a.b")), sha256(b"a.b").digest())


class RetryAfterTests(SynchronousTestCase):
    def test_seconds_and_dates(self) -> None:
        """From now on, never in the past, never for ever."""
        for text, expected in (
            ("120", 120.0),
            (" 0 ", 0.0),
            (formatdate(1060, usegmt=True), 60.0),
            (formatdate(10, usegmt=True), 0.0),
            ("99999999999999999999", LONGEST_RETRY),
            (None, None),
            ("soon", None),
            ("-5", None),
            ("1.5", None),
            ("\u0661", None),
        ):
            self.assertEqual(seconds_of(text, 1000.0), expected, text)

    @given(st.text(max_size=40))
    def test_anything(self, text: str) -> None:
        """Nothing that a CA writes there raises, or lies outside the bounds."""
        seconds = seconds_of(text, 1000.0)
        self.assertTrue(seconds is None or 0 <= seconds <= LONGEST_RETRY)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(KEYS, one, max_size=4),
    max_leaves=12,
)


class AnswerTests(SynchronousTestCase):
    @given(st.dictionaries(KEYS, JSON, max_size=6) | JSON, st.sampled_from([200, 400, 500]))
    def test_anything(self, value: object, status: int) -> None:
        """Whatever JSON a CA sends, it is what it should be, or an AcmeError in one line of bounded length."""
        answer = Answer(url="https://ca.test/x", status=status, body=json.dumps(value).encode())
        self.assertTrue(str(problem_of(answer)).isprintable())
        for meaning in (lambda: Directory.of(answer.fields()), lambda: RenewalInfo.of(answer)):
            with contextlib.suppress(AcmeError):
                meaning()
