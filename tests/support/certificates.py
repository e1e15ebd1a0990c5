"""Certificates for tests: a CA of the test's own, with an intermediate, that signs whatever it is asked to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from dcrouter.config.tls import CertificateFiles
from dcrouter.tls.credential import Credential, PrivateKey, make


class Authority:
    """A root, and an intermediate that signs the leaves."""

    def __init__(self, name: str = "test") -> None:
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._root_name, self._name = _name(f"{name} root"), _name(f"{name} intermediate")
        self.root = _sign(self._root_name, self._root_key, self._root_name, self._root_key, ca=True)
        self.intermediate = _sign(self._name, self._key, self._root_name, self._root_key, ca=True)

    @property
    def root_pem(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)

    @property
    def intermediate_pem(self) -> bytes:
        return self.intermediate.public_bytes(Encoding.PEM)

    def revocations(self, *revoked: Credential, days: float = 30) -> tuple[bytes, bytes]:
        """The lists of the root, which is empty, and of the intermediate, PEM; `days` below 0: they have run out."""
        return _list(self._root_name, self._root_key, (), days), _list(self._name, self._key, revoked, days)

    def credential(
        self,
        names: Sequence[str],
        *,
        rsa_key: bool = False,
        days: float = 30,
        file: str | None = None,
        shared: bool = True,
        usage: x509.ObjectIdentifier | None = None,
    ) -> Credential:
        """A leaf for `names` with its intermediate; `days` below 0: it has expired. `usage`: the only one."""
        key: PrivateKey
        key = rsa.generate_private_key(65537, 2048) if rsa_key else ec.generate_private_key(ec.SECP256R1())
        leaf = _sign(_name(names[0][:64]), key, self._name, self._key, names=names, days=days, usage=usage)
        return make([leaf, self.intermediate], key, source="file", file=file, shared=shared)

    def signed(self, request: x509.CertificateSigningRequest, *, days: float = 30, without: str = "") -> bytes:
        """The chain (PEM, leaf first) for the key and the names of a request, `without` one of them."""
        alternatives = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [str(name.value) for name in alternatives if name.value != without]
        leaf = _sign(_name("signed"), request, self._name, self._key, names=names, days=days)
        return leaf.public_bytes(Encoding.PEM) + self.intermediate_pem

    def files(self, directory: Path, names: Sequence[str], *, stem: str = "site", days: float = 30) -> CertificateFiles:
        """The same as `directory`/`stem`.pem and .key."""
        return write(self.credential(names, days=days), directory, stem)


def write(credential: Credential, directory: Path, stem: str) -> CertificateFiles:
    """A credential as the operator would bring it."""
    files = CertificateFiles(cert=directory / f"{stem}.pem", key=directory / f"{stem}.key")
    files.cert.write_bytes(credential.chain)
    files.key.write_bytes(credential.key)
    return files


def encrypted(key: bytes, password: bytes) -> bytes:
    """A PEM private key under a passphrase."""
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key

    return load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)
    )


def traditional(key: bytes) -> bytes:
    """A PEM EC key as `openssl ecparam -genkey` writes it: parameters first."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    plain = load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    return parameters + plain


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _sign(
    subject: x509.Name,
    key: PrivateKey | x509.CertificateSigningRequest,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    names: Sequence[str] = (),
    days: float = 30,
    ca: bool = False,
    usage: x509.ObjectIdentifier | None = None,
) -> x509.Certificate:
    end = datetime.now(UTC) + timedelta(days=days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=60))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
        )
    return builder.sign(issuer_key, SHA256())


def _list(issuer: x509.Name, key: ec.EllipticCurvePrivateKey, revoked: Sequence[Credential], days: float) -> bytes:
    end = datetime.now(UTC) + timedelta(days=days)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer)
        .last_update(end - timedelta(days=60))
        .next_update(end)
    )
    for credential in revoked:
        number = credential.certificates()[0].serial_number
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(number)
            .revocation_date(datetime.now(UTC) - timedelta(days=1))
            .build()
        )
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
