"""Messages that dkimpy has signed, for x.test, and the keys to check them with."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import dkim
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

MESSAGE = (
    b"From: Joe <joe@x.test>\r\nTo: suzie@y.test\r\nSubject:  Is  dinner\r\n\tready?\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\n\r\nHi. \r\n\r\nWe lost  the\tgame.\r\n\r\n\r\n"
)


@cache
def rsa_key(bits: int = 2048) -> tuple[bytes, str]:
    """(PEM of the private key, key record)."""
    key = rsa.generate_private_key(65537, bits)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return pem, f"v=DKIM1; p={base64.b64encode(public).decode()}"


@cache
def ed25519_key() -> tuple[bytes, str]:
    """(base64 of the private key, key record)."""
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    private = base64.b64encode(key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))
    return private, f"v=DKIM1; k=ed25519; p={base64.b64encode(public).decode()}"


def sign(message: bytes = MESSAGE, **options: Any) -> bytes:
    """The message, signed by dkimpy for x.test with selector s."""
    options.setdefault("privkey", rsa_key()[0])
    field: bytes = dkim.sign(message, options.pop("selector", b"s"), b"x.test", **options)
    return field + message
