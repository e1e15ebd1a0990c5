"""Certificates as the operator sees them: `dcrouter certs`."""

from __future__ import annotations

from typing import Any

from attrs import asdict, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import NameOID

from dcrouter.tls.credential import Credential, Source

_CURVES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}


@frozen(kw_only=True)
class Listed:
    """One that is in use, or, with `not_after` None, one that is only wanted yet. Instants are UTC epoch seconds.

    `issuer`: its common name, or all of it; `key`: as `ecdsa-p256`. `next_renewal`: None where nobody here renews it.
    `last_error`: why the last attempt to renew or to read it came to nothing; `back_off_until`: no sooner again.
    """

    names: tuple[str, ...]
    source: Source
    issuer: str | None = None
    key: str | None = None
    not_after: float | None = None
    next_renewal: float | None = None
    last_error: str | None = None
    back_off_until: float | None = None
    file: str | None = None

    def to_plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def listed(
    credential: Credential,
    *,
    next_renewal: float | None = None,
    last_error: str | None = None,
    back_off_until: float | None = None,
) -> Listed:
    """One that is in use, and what else is known of it."""
    leaf = x509.load_pem_x509_certificate(credential.leaf)
    return Listed(
        names=credential.names,
        source=credential.source,
        issuer=_issuer(leaf),
        key=_key(leaf, credential),
        not_after=credential.not_after,
        next_renewal=next_renewal,
        last_error=last_error,
        back_off_until=back_off_until,
        file=credential.file,
    )


def _issuer(leaf: x509.Certificate) -> str:
    try:
        common = leaf.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(common[0].value) if common else leaf.issuer.rfc4514_string()
    except ValueError:
        return "?"


def _key(leaf: x509.Certificate, credential: Credential) -> str:
    key = leaf.public_key()
    if isinstance(key, EllipticCurvePublicKey):
        return f"ecdsa-{_CURVES.get(key.curve.name, key.curve.name)}"
    return f"rsa-{key.key_size}" if isinstance(key, RSAPublicKey) else credential.key_type
