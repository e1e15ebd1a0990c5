"""A public key in a file: what it is, and which algorithms of signatures it is for (RFC 7518 section 3.1, RFC 8037)."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from dcrouter.errors import ConfigError

LARGEST = 65536
PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}


def public_key_of(data: bytes, file: str) -> PublicKey:
    """The key; ConfigError where there is none that could be used."""
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError([f"{file} is not a PEM public key"]) from None
    if not isinstance(key, PublicKey):
        raise ConfigError([f"{file} holds a key of a kind that signs no tokens"])
    return key


def public_der(owner: x509.Certificate | PrivateKeyTypes) -> bytes:
    """The public key of a certificate, or of a private key: equal where one belongs to the other."""
    return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def fits(algorithm: str, key: PublicKey) -> bool:
    """Whether signatures of this algorithm can be checked with this key."""
    if algorithm.startswith(("RS", "PS")):
        return isinstance(key, RSAPublicKey)
    if algorithm.startswith("ES"):
        return isinstance(key, EllipticCurvePublicKey) and key.curve.name == _CURVES[algorithm]
    return algorithm == "EdDSA" and isinstance(key, Ed25519PublicKey | Ed448PublicKey)
