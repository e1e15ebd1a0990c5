"""The account that a CA's customer has already, to which the ACME account is bound (RFC 8555 section 7.3.4)."""

from __future__ import annotations

import hmac
import json

from attrs import field, frozen

from dcrouter.tls.acme.jws import b64


@frozen(kw_only=True)
class ExternalAccount:
    """What the CA has given out: an id, and the key as octets."""

    key_id: str
    hmac_key: bytes = field(repr=False)

    def binding(self, url: str, jwk: dict[str, str]) -> dict[str, str]:
        """The JWS by which the holder of this key says that the account of `jwk` is theirs. `url`: of newAccount."""
        head = b64(json.dumps({"alg": "HS256", "kid": self.key_id, "url": url}).encode())
        body = b64(json.dumps(jwk).encode())
        signature = hmac.digest(self.hmac_key, f"{head}.{body}".encode("ascii"), "sha256")
        return {"protected": head, "payload": body, "signature": b64(signature)}
