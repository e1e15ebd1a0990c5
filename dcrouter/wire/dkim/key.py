"""The public key of a signature, from its TXT record. RFC 6376 3.6.1, 8463 4, 8301 (RSA of 1024 bits or more)."""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from dcrouter.errors import WireError
from dcrouter.wire.dkim import tags
from dcrouter.wire.dkim.signature import Signature

MIN_BITS = 1024
MAX_BITS = 8192
"""Of RSA: larger keys cost time, and are in no use."""

KEPT = 512
"""Keys that are remembered as parsed."""

_PREHASHED = Prehashed(hashes.SHA256())


class Key:
    """One key. Raises WireError where the record is none that this `signature` could be checked with."""

    def __init__(self, record: str, signature: Signature) -> None:
        found = tags.parse(record)
        if found.get("v", "DKIM1") != "DKIM1":
            raise WireError("the record is no key")
        kind = signature.algorithm.partition("-")[0]
        if found.get("k", "rsa") != kind:
            raise WireError("the key is of another kind than the signature")
        if "h" in found and "sha256" not in _words(found["h"]):
            raise WireError("the key is not for SHA-256")
        if not {"*", "email"} & set(_words(found.get("s", "*"))):
            raise WireError("the key is not for mail")
        if "s" in _words(found.get("t", "")) and signature.identity != signature.domain:
            raise WireError("the key is not for subdomains")
        if "p" not in found:
            raise WireError("the record has no key")
        if not found["p"]:
            raise WireError("the key is revoked")
        self._key = _loaded(kind, found["p"])

    def fits(self, value: bytes, digest: bytes) -> bool:
        """Whether `value` is the signature of this SHA-256 digest."""
        try:
            if isinstance(self._key, Ed25519PublicKey):
                self._key.verify(value, digest)
            else:
                self._key.verify(value, digest, PKCS1v15(), _PREHASHED)
        except InvalidSignature:
            return False
        return True


def _words(value: str) -> list[str]:
    return [word.strip() for word in value.split(":")]


@lru_cache(maxsize=KEPT)
def _loaded(kind: str, text: str) -> RSAPublicKey | Ed25519PublicKey:
    octets = tags.octets(text)
    try:
        key = Ed25519PublicKey.from_public_bytes(octets) if kind == "ed25519" else load_der_public_key(octets)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise WireError("the key cannot be read") from error
    if isinstance(key, Ed25519PublicKey) and kind == "ed25519":
        return key
    if not isinstance(key, RSAPublicKey):
        raise WireError("the key is of another kind than it says")
    if not MIN_BITS <= key.key_size <= MAX_BITS:
        raise WireError(f"a key of {key.key_size} bits")
    return key
