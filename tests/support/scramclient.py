"""The client's side of SCRAM-SHA-256, written from RFC 5802 3 and 5, for tests."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode


class ScramClient:
    """`flag`: of the GS2 header, such as `n`, `y`, `p=tls-exporter`; `binding`: the channel's data."""

    def __init__(
        self, name: str, password: str, *, flag: str = "n", binding: bytes = b"", authzid: str = "", nonce: str = "abc"
    ) -> None:
        self._password = password
        self._header = f"{flag},{f'a={authzid}' if authzid else ''},"
        self._binding = binding
        self._bare = f"n={name},r={nonce}"
        self._server = b""

    def first(self) -> bytes:
        return (self._header + self._bare).encode()

    def final(self, challenge: bytes) -> bytes:
        fields = dict(part.split("=", 1) for part in challenge.decode().split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self._password.encode(), b64decode(fields["s"]), int(fields["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        bound = b64encode(self._header.encode() + self._binding).decode()
        without = f"c={bound},r={fields['r']}"
        message = f"{self._bare},{challenge.decode()},{without}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        self._server = b"v=" + b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256"))
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        return f"{without},p={b64encode(proof).decode()}".encode()

    def proves(self, signature: bytes) -> bool:
        """Whether the server knows the password's verifier."""
        return signature == self._server
