"""Requests signed as ACME wants them: flattened JSON Web Signatures, and what stands for a key (RFC 7515, 7517, 7638).

Account keys are ECDSA P-256 (ES256), P-384 (ES384) or RSA (RS256); ValueError for any other.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm

AccountKey = EllipticCurvePrivateKey | RSAPrivateKey

_CURVES: dict[str, tuple[str, str, HashAlgorithm, int]] = {
    "secp256r1": ("ES256", "P-256", SHA256(), 32),
    "secp384r1": ("ES384", "P-384", SHA384(), 48),
}
"""Curve -> algorithm, its name in a JWK, hash, octets of a coordinate (RFC 7518 sections 3.4 and 6.2)."""


def b64(data: bytes) -> str:
    """base64url without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def number(value: int, length: int | None = None) -> str:
    """An integer, big-endian, in `length` octets or as few as it takes."""
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8 or 1, "big"))


class Signer:
    """A private key as JWS uses it. `jwk`: its public half; `thumbprint`: RFC 7638, with SHA-256.

    ValueError for a key that no CA takes.
    """

    def __init__(self, key: PrivateKeyTypes) -> None:
        if isinstance(key, EllipticCurvePrivateKey):
            if key.curve.name not in _CURVES:
                raise ValueError(f"an ACME account key on the curve {key.curve.name}: P-256 and P-384 can be used")
            self._key: AccountKey = key
            self.algorithm, curve, self._hash, self._octets = _CURVES[key.curve.name]
            point = key.public_key().public_numbers()
            x, y = number(point.x, self._octets), number(point.y, self._octets)
            self.jwk = {"crv": curve, "kty": "EC", "x": x, "y": y}
        elif isinstance(key, RSAPrivateKey):
            self._key = key
            self.algorithm = "RS256"
            numbers = key.public_key().public_numbers()
            self.jwk = {"e": number(numbers.e), "kty": "RSA", "n": number(numbers.n)}
        else:
            raise ValueError("an ACME account key is ECDSA (P-256, P-384) or RSA")
        canonical = json.dumps(self.jwk, sort_keys=True, separators=(",", ":"))
        self.thumbprint = b64(sha256(canonical.encode("ascii")).digest())

    def key_authorization(self, token: str) -> str:
        """RFC 8555 section 8.1."""
        return f"{token}.{self.thumbprint}"

    def sign(self, protected: dict[str, Any], payload: Any) -> dict[str, str]:
        """A JWS; `protected` lacks only `alg`. `payload` None: the empty one of POST-as-GET (RFC 8555 section 6.3)."""
        head = b64(json.dumps({"alg": self.algorithm, **protected}).encode())
        body = "" if payload is None else b64(json.dumps(payload).encode())
        return {"protected": head, "payload": body, "signature": b64(self._signature(f"{head}.{body}".encode("ascii")))}

    def _signature(self, data: bytes) -> bytes:
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(data, PKCS1v15(), SHA256())
        r, s = decode_dss_signature(self._key.sign(data, ECDSA(self._hash)))
        return r.to_bytes(self._octets, "big") + s.to_bytes(self._octets, "big")
