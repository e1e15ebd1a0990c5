"""The internal CA: a root of our own, and leaves for names that no other authority vouches for.

Everything lives in `<state_dir>/internal-ca` (0700): `ca.pem` (public: what clients trust), `ca.key`, and one file per
set of names under `leaves`, key and certificate together so that they are replaced as one. Keys are 0600 from their
first byte; files appear whole or not at all, but for leaves after a power loss, which are made anew then: thousands may
be made at once, and nobody is to wait for the disk. Certificates: RFC 5280; ECDSA P-256.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.logger import Logger

from dcrouter.durable import make_directory, sync_directory, write_whole
from dcrouter.errors import TlsError
from dcrouter.tls.credential import Credential, PrivateKey, make, read, read_chain, read_key
from dcrouter.tls.keys import fresh_key
from dcrouter.tls.names import as_certified, general_name

_DAY = 86400.0
ROOT_LIFETIME = 3650 * _DAY
LEAF_LIFETIME = 90 * _DAY
RENEW_AT = 2 / 3
"""The share of a leaf's lifetime after which it is issued anew."""

_SKEW = 3600.0  # a client whose clock is a little behind believes a fresh leaf too
_LONGEST_COMMON_NAME = 64  # RFC 5280 appendix A, ub-common-name

_log = Logger()


@frozen(kw_only=True)
class _Root:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class InternalCa:
    """The CA of one state directory, of which it is the only writer. `clock`: UTC epoch seconds.

    `root_path`: the root certificate (PEM), public, for clients to trust; it exists from the first `issue` on.
    """

    def __init__(self, state_dir: Path, clock: Callable[[], float]) -> None:
        self.root_path = root_of(state_dir)
        self._directory = self.root_path.parent
        self._leaves = self._directory / "leaves"
        self._clock = clock
        self._root: _Root | None = None
        self._swept = 0.0

    def issue(
        self, names: Sequence[str], make_key: Callable[[], PrivateKey] = fresh_key, *, anew: bool = False
    ) -> Credential:
        """A credential for these DNS names and addresses (`**.x` as `*.x`), from the disk while it is fresh.

        `make_key`: the key of a new one; `anew`: however fresh the one on the disk is. Raises TlsError where the
        directory cannot be used or a name cannot stand in a certificate.
        """
        wanted = _wanted(names)
        try:
            root = self._load_root()
            path = self._leaves / f"{sha256(' '.join(sorted(wanted)).encode()).hexdigest()[:32]}.pem"
            cached = None if anew else self._cached(path, root)
            return cached if cached is not None else self._issue(wanted, path, root, make_key())
        except OSError as error:
            raise TlsError(f"the internal CA in {self._directory} cannot be used: {error.strerror}") from error

    def renewal(self, credential: Credential) -> float:
        """When a leaf of ours is issued anew: UTC epoch seconds."""
        return credential.not_after - LEAF_LIFETIME * (1 - RENEW_AT)

    def due(self, credential: Credential) -> bool:
        """Whether `issue` would now make this credential of ours anew."""
        left = credential.not_after - self._clock()
        return (
            not LEAF_LIFETIME * (1 - RENEW_AT) < left <= LEAF_LIFETIME + _SKEW
        )  # more is left where a clock was set back

    def _cached(self, path: Path, root: _Root) -> Credential | None:
        if not path.exists():
            return None
        try:
            leaf = read(path, path, source="internal")
            leaf.certificates()[0].verify_directly_issued_by(root.certificate)
        except (TlsError, ValueError, TypeError, InvalidSignature) as error:
            _log.warn("the internal certificate {path} is issued anew: {reason}", path=str(path), reason=str(error))
            return None
        return None if self.due(leaf) else leaf

    def _issue(self, names: Sequence[str], path: Path, root: _Root, key: PrivateKey) -> Credential:
        now = self._clock()
        subject = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if len(names[0]) <= _LONGEST_COMMON_NAME else []
        )
        try:
            alternatives = x509.SubjectAlternativeName([general_name(name) for name in names])
        except ValueError as error:
            raise TlsError(f"the internal CA cannot certify {', '.join(names)}: {error}") from error
        leaf = (
            _builder(subject, root.certificate.subject, key, now, LEAF_LIFETIME)
            .add_extension(alternatives, critical=not list(subject))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()),
                critical=False,
            )
            .sign(root.key, SHA256())
        )
        credential = make([leaf], key, source="internal")
        self._sweep()
        write_whole(path, credential.key + credential.chain, 0o600, durable=False)
        _log.info("the internal CA has certified {names}", names=", ".join(names))
        return credential

    def _sweep(self) -> None:
        """Remove the leaves that nobody has asked for in a lifetime: their names have left the configuration. Once a
        day, for it looks at all of them.
        """
        if abs(self._clock() - self._swept) < _DAY:
            return
        self._swept = self._clock()
        for path in self._leaves.iterdir():
            if path.stat().st_mtime < self._clock() - LEAF_LIFETIME:
                path.unlink()

    def _load_root(self) -> _Root:
        """The root as it is on disk, made where there is none or where it could not outlive a new leaf."""
        if self._root is None:
            make_directory(self._directory)
            self._directory.chmod(0o700)
            make_directory(self._leaves)
            self._root = self._read_root()
        if self._root is None or self._ends_too_soon(self._root.certificate):
            self._root = self._make_root()
        return self._root

    def _ends_too_soon(self, root: x509.Certificate) -> bool:
        return root.not_valid_after_utc.timestamp() < self._clock() + LEAF_LIFETIME

    def _read_root(self) -> _Root | None:
        key_path = self._directory / "ca.key"
        if not self.root_path.exists():
            return None  # its certificate is lost, or a crash between the two writes left the key alone
        if not key_path.exists():
            raise TlsError(f"key file {key_path} does not exist: restore it, or remove {self.root_path} for a new CA")
        key = self._read_key()
        try:
            certificate = read_chain(self.root_path)[0]
        except TlsError as error:
            raise TlsError(f"{error}: restore it, or remove it: it is made anew with the key beside it") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise TlsError(
                f"key file {key_path} does not match certificate file {self.root_path}: "
                "restore them, or remove both for a new CA"
            )
        return _Root(certificate=certificate, key=key)

    def _read_key(self) -> PrivateKey:
        try:
            return read_key(self._directory / "ca.key")
        except TlsError as error:
            raise TlsError(f"{error}: restore it, or remove it and {self.root_path} for a new CA") from error

    def _spare_key(self) -> ec.EllipticCurvePrivateKey | None:
        """The key of a root whose certificate is lost."""
        path = self._directory / "ca.key"
        if self.root_path.exists() or not path.exists():
            return None
        key = self._read_key()
        return key if isinstance(key, ec.EllipticCurvePrivateKey) else None

    def _make_root(self) -> _Root:
        key = self._spare_key() or ec.generate_private_key(ec.SECP256R1())
        # Named after its key: a certificate that is lost and made anew is as good to those who trust the old one.
        token = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"dcrouter internal CA {token}")])
        certificate = (
            _builder(name, name, key, self._clock(), ROOT_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .sign(key, SHA256())
        )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        # First, and durably, so that a crash between the two writes never leaves a pair that differs.
        self.root_path.unlink(missing_ok=True)
        sync_directory(self._directory)
        write_whole(self._directory / "ca.key", pem, 0o600)
        write_whole(self.root_path, certificate.public_bytes(Encoding.PEM), 0o644)
        _log.info("a new internal CA: clients that shall trust it need {path}", path=str(self.root_path))
        return _Root(certificate=certificate, key=key)


def root_of(state_dir: Path) -> Path:
    """Where the root certificate is."""
    return state_dir / "internal-ca" / "ca.pem"


def _wanted(names: Sequence[str]) -> tuple[str, ...]:
    """The names that stand in the leaf: lower case, each once, in their order."""
    return tuple(dict.fromkeys(as_certified(name) for name in names))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, now: float, lifetime: float
) -> x509.CertificateBuilder:
    born = datetime.fromtimestamp(int(now), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(born - timedelta(seconds=_SKEW))
        .not_valid_after(born + timedelta(seconds=lifetime))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
