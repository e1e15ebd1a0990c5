"""A certificate with its private key, as one value that can cross a process border.

Only the parent reads files; the edge and the mail process get credentials as plain values over their private socketpair
and never touch the disk. Chains are PEM with the leaf first; names are those of the leaf's SubjectAltName (RFC 9525:
the common name names nobody).
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Sequence
from datetime import UTC
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from dcrouter.config.named import not_waiting
from dcrouter.config.pem import is_whole
from dcrouter.config.publickey import public_der
from dcrouter.errors import TlsError

PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey
KeyType = Literal["ecdsa", "rsa", "ed25519"]
Source = Literal["file", "acme", "internal"]
"""Whose certificate it is; `auto` asks for them in this order (tls/chooser.py)."""

_LARGEST_FILE = 1024 * 1024  # a chain is a few KB; a log or a device named by mistake gets a sentence
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


@frozen(kw_only=True)
class Credential:
    """Who we can prove to be. `id`: the same for the same chain and place, new for a renewed one.

    `leaf`: the certificate; `issuers`: those that follow it, kept once for all certificates that share them; PEM.
    `names`: DNS names in lower case (`*.` for one label) and addresses as text. `not_after`: UTC epoch seconds.
    `file`: the certificate's path as the configuration gives it, None for an internal one.
    `shared`: False where it belongs to the routes that name its file, and to nobody else.
    """

    id: str
    leaf: bytes = field(repr=False)
    issuers: str = field(repr=False, converter=sys.intern)
    key: bytes = field(repr=False)
    names: tuple[str, ...]
    not_after: float
    source: Source
    key_type: KeyType
    file: str | None = None
    shared: bool = True

    def to_plain(self) -> dict[str, Any]:
        """As JSON-ready values, the private key among them: for a private socket only, never for a log."""
        return {
            "id": self.id,
            "leaf": self.leaf.decode("ascii"),
            "issuers": self.issuers,
            "key": self.key.decode("ascii"),
            "names": list(self.names),
            "not_after": self.not_after,
            "source": self.source,
            "key_type": self.key_type,
            "file": self.file,
            "shared": self.shared,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Credential:
        """The inverse of `to_plain`; KeyError where something is missing."""
        return cls(
            id=plain["id"],
            leaf=plain["leaf"].encode("ascii"),
            issuers=plain["issuers"],
            key=plain["key"].encode("ascii"),
            names=tuple(plain["names"]),
            not_after=plain["not_after"],
            source=plain["source"],
            key_type=plain["key_type"],
            file=plain["file"],
            shared=plain["shared"],
        )

    @property
    def chain(self) -> bytes:
        """PEM, leaf first."""
        return self.leaf + self.issuers.encode("ascii")

    def certificates(self) -> list[x509.Certificate]:
        """The chain, leaf first."""
        return x509.load_pem_x509_certificates(self.chain)

    def private_key(self) -> PrivateKey:
        """The leaf's key."""
        # It was tried when it was read; OpenSSL's own look at an RSA key takes 30 ms, in the way of every connection.
        key = load_pem_private_key(self.key, None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(key, PrivateKey)
        return key


def make(
    chain: Sequence[x509.Certificate],
    key: PrivateKey,
    *,
    source: Source,
    file: str | None = None,
    shared: bool = True,
) -> Credential:
    """The credential of a chain (leaf first) and the leaf's key, both written anew as clean PEM."""
    leaf = chain[0]
    identity = sha256(f"{source} {shared} {file or ''}".encode("utf-8", "surrogateescape"))
    for certificate in chain:
        identity.update(certificate.public_bytes(Encoding.DER))
    return Credential(
        id=identity.hexdigest()[:32],
        leaf=leaf.public_bytes(Encoding.PEM),
        issuers="".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in chain[1:]),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        names=_names(leaf),
        not_after=leaf.not_valid_after_utc.astimezone(UTC).timestamp(),
        source=source,
        key_type=_key_type(key),
        file=file,
        shared=shared,
    )


def read(cert: Path, key: Path, *, shared: bool = True, source: Source = "file") -> Credential:
    """A pair from two PEM files (which may be the same one): the operator's, or one of ours by another `source`.

    An expired certificate is read like any other: whether to warn is the reader's to decide.
    Raises TlsError with one sentence that names the file at fault.
    """
    chain = read_chain(cert)
    private = read_key(key)
    wanted = public_der(private)
    try:
        owners = [public_der(certificate) == wanted for certificate in chain]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TlsError(f"certificate file {cert} has a key of an unknown kind") from error
    if not owners[0]:
        if any(owners):
            raise TlsError(
                f"certificate file {cert} must begin with the certificate of key file {key}, not with its CA's"
            )
        raise TlsError(f"key file {key} does not match certificate file {cert}")
    try:
        return make(chain, private, source=source, file=str(cert) if source == "file" else None, shared=shared)
    except ValueError as error:
        raise TlsError(f"certificate file {cert} is malformed: {error}") from error


def read_chain(path: Path) -> list[x509.Certificate]:
    blocks = [block for label, block in _blocks(path, "certificate file") if label == b"CERTIFICATE"]
    if not blocks:
        raise TlsError(f"certificate file {path} holds no PEM certificate")
    try:
        return [x509.load_pem_x509_certificate(block) for block in blocks]
    except ValueError as error:
        raise TlsError(f"certificate file {path} holds a certificate that cannot be parsed") from error


def read_key(path: Path) -> PrivateKey:
    blocks = [block for label, block in _blocks(path, "key file") if label.endswith(b"PRIVATE KEY")]
    if not blocks:
        raise TlsError(f"key file {path} holds no PEM private key")
    try:
        key = load_pem_private_key(blocks[0], None, unsafe_skip_rsa_key_validation=True)
        if isinstance(key, RSAPrivateKey):
            _try(key)
    except TypeError as error:
        raise TlsError(f"key file {path} is encrypted: dcrouter needs it without a passphrase") from error
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise TlsError(f"key file {path} holds a private key that cannot be parsed") from error
    if not isinstance(key, PrivateKey):
        raise TlsError(f"key file {path} must hold an ECDSA, RSA or Ed25519 key")
    return key


def _blocks(path: Path, what: str) -> list[tuple[bytes, bytes]]:
    """`pem_blocks` of a file; `what` it is to the operator."""
    try:
        with open(path, "rb", opener=not_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise TlsError(f"{what} {path} is not a file")
            text = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError as error:
        raise TlsError(f"{what} {path} does not exist") from error
    except OSError as error:
        raise TlsError(f"{what} {path} cannot be read: {error.strerror}") from error
    if len(text) > _LARGEST_FILE:
        raise TlsError(f"{what} {path} is larger than 1 MB")
    if not is_whole(text):
        raise TlsError(f"{what} {path} is cut off: it ends within a PEM block")
    return pem_blocks(text)


def pem_blocks(text: bytes) -> list[tuple[bytes, bytes]]:
    """The PEM blocks of `text` as (label, block) (RFC 7468); what stands between them is commentary."""
    return [(match.group(1), match.group(0) + b"\n") for match in _PEM_BLOCK.finditer(text)]


def _try(key: RSAPrivateKey) -> None:
    """InvalidSignature or ValueError where it is none: a fraction of the time that OpenSSL takes to validate it."""
    numbers = key.private_numbers()
    p, q, d = numbers.p, numbers.q, numbers.d
    public = numbers.public_numbers
    # Which primes those are needs no proof: their product is the modulus, and that is the certificate's (RFC 8017 3.2).
    if (
        min(p, q) > 1
        and p * q == public.n
        and d * public.e % (p - 1) == 1 == d * public.e % (q - 1)
        and (numbers.dmp1, numbers.dmq1) == (d % (p - 1), d % (q - 1))
        and numbers.iqmp * q % p == 1
    ):
        return
    key.public_key().verify(key.sign(b"", PKCS1v15(), SHA256()), b"", PKCS1v15(), SHA256())


def _key_type(key: PrivateKey) -> KeyType:
    if isinstance(key, EllipticCurvePrivateKey):
        return "ecdsa"
    return "rsa" if isinstance(key, RSAPrivateKey) else "ed25519"


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = [name.lower().rstrip(".") for name in names.get_values_for_type(x509.DNSName)]
    return (*hosts, *map(str, names.get_values_for_type(x509.IPAddress)))
