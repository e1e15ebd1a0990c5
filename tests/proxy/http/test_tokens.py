"""security.jwt: tokens of each algorithm, and those that nobody should take."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dcrouter.proxy.http.auth.tokens import TokenGate
from dcrouter.tls.keysets import keys_of
from tests.support.features import FeatureTest, resolved, written

SECRET = "0123456789abcdef0123456789abcdef"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
URL = "http://127.0.0.1:1/keys"


def pem(key: Any) -> bytes:
    data: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def token(key: Any, algorithm: str, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    given = {"sub": "ann", "iss": "a", "aud": "b", "exp": time.time() + 60, **claims}
    return jwt.encode({k: v for k, v in given.items() if v is not None}, key, algorithm, headers)


def jwk(key: Any, algorithm: str, **more: Any) -> dict[str, Any]:
    return {**json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key())), **more}


class TokenCase(FeatureTest):
    def guarded(self, keys: str) -> int:
        target = self.echo().port
        return self.serve(f"""
            - name: web
              match: {{ports: PORT, domains: [a.example]}}
              security: {{jwt: {{{keys}}}}}
              action:
                type: forward
                target: {{host: 127.0.0.1, port: {target}}}
                headers: {{request: {{set: {{x-user: "{{user}}"}}}}}}
        """)

    def status(self, port: int, text: str) -> int:
        lines = ("-H", f"Authorization: Bearer {text}")
        return self.curl(f"http://a.example:{port}/", *resolved(port), *lines).status


class SignatureTests(TokenCase):
    def test_each_algorithm_with_a_key_of_its_kind(self) -> None:
        """The target hears whose token it is."""
        for key, algorithms in ((RSA, ("RS256", "PS512")), (EC, ("ES256",)), (ED, ("EdDSA",))):
            written(self.directory, "key.pem", pem(key))
            port = self.guarded(f"public_key: key.pem, algorithms: [{', '.join(algorithms)}]")
            for algorithm in algorithms:
                seen = self.at_target(port, "-H", "Authorization: Bearer " + token(key, algorithm))
                self.assertEqual(seen.get(b"x-user"), b"ann")
            self.edge.stop()
            self.listeners.clear()
        port = self.guarded(f"secret: {SECRET}, algorithms: [HS256]")
        self.assertEqual(self.status(port, token(SECRET, "HS256")), 200)

    def test_a_token_does_not_choose_how_it_is_checked(self) -> None:
        """No signature, a public key taken for a secret, another algorithm of the same key."""
        written(self.directory, "key.pem", pem(RSA))
        port = self.guarded("public_key: key.pem, algorithms: [RS256]")
        parts = token(RSA, "RS256").split(".")

        def encoded(data: bytes) -> str:
            return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

        confused = encoded(b'{"alg":"HS256"}') + "." + parts[1]
        mac = hmac.digest(pem(RSA), confused.encode(), hashlib.sha256)
        for bad in (
            token("", "none"),
            encoded(b'{"alg":"none"}') + "." + parts[1] + ".",
            confused + "." + encoded(mac),
            token(RSA, "RS512"),
            token(RSA, "PS256"),
            token(rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256"),
            token(RSA, "RS256", {"crit": ["x"], "x": 1}),
            parts[0] + "." + parts[1] + ".",
            parts[0] + "." + encoded(b'{"sub":"root","exp":99999999999}') + "." + parts[2],
            "a.b.c",
            "x",
            "x" * 9000,
            encoded(b"[1]") + "." + parts[1] + "." + parts[2],
        ):
            self.assertEqual(self.status(port, bad), 401, bad)
        self.assertEqual(self.seen, [])

    def test_the_challenge(self) -> None:
        """RFC 6750 section 3: no error where nothing was brought."""
        port = self.guarded(f"secret: {SECRET}, algorithms: [HS256]")
        for options, challenge in (
            ((), "Bearer"),
            (("-u", "ann:secret"), "Bearer"),
            (("-H", "Authorization: Bearer x"), 'Bearer error="invalid_token"'),
            (("-H", "Authorization: bearer x"), 'Bearer error="invalid_token"'),
        ):
            answer = self.curl(f"http://a.example:{port}/", *resolved(port), *options)
            self.assertEqual((answer.status, answer.get("www-authenticate")), (401, challenge))


class ClaimTests(TokenCase):
    def test_times_issuer_and_audience(self) -> None:
        """Within the leeway of clocks; a token that never runs out is not taken."""
        port = self.guarded(f"secret: {SECRET}, algorithms: [HS256], issuer: a, audience: [b, c], leeway: 10s")
        now = time.time()
        for claims, status in (
            ({}, 200),
            ({"aud": ["x", "c"]}, 200),
            ({"exp": now - 5}, 200),
            ({"exp": now - 15}, 401),
            ({"exp": None}, 401),
            ({"exp": "soon"}, 401),
            ({"nbf": now + 5}, 200),
            ({"nbf": now + 60}, 401),
            ({"iss": "b"}, 401),
            ({"iss": None}, 401),
            ({"aud": "x"}, 401),
            ({"aud": None}, 401),
        ):
            self.assertEqual(self.status(port, token(SECRET, "HS256", **claims)), status, claims)

    def test_what_is_not_asked_is_not_looked_at(self) -> None:
        """Without `issuer` and `audience` any will do."""
        port = self.guarded(f"secret: {SECRET}, algorithms: [HS256]")
        self.assertEqual(self.status(port, token(SECRET, "HS256", iss="x", aud=["y"], sub=None)), 200)

    def test_a_good_token_is_remembered_until_it_runs_out(self) -> None:
        """And no longer, nor for another route's keys."""
        port = self.guarded(f"secret: {SECRET}, algorithms: [HS256], leeway: 0s")
        short = token(SECRET, "HS256", exp=time.time() + 4)
        self.assertEqual(self.status(port, short), 200)
        self.assertEqual(self.status(port, short), 200)
        (gate,) = self.edge.plan.routes[0].features.gates
        assert isinstance(gate, TokenGate)
        self.assertEqual(len(gate._good), 1)
        until = time.monotonic() + 60
        while (status := self.status(port, short)) == 200 and time.monotonic() < until:
            pass
        self.assertEqual(status, 401)


class KeySetTests(TokenCase):
    def test_keys_of_the_issuer(self) -> None:
        """Before they are known nobody gets in; a key that is gone is gone; one that is missed is asked for."""
        port = self.guarded(f"jwks_url: '{URL}', algorithms: [RS256, ES256, EdDSA]")
        missed: list[str] = []
        self.edge.key_sets.wanted = missed.append
        good = token(RSA, "RS256", {"kid": "one"})
        self.assertEqual(self.status(port, good), 503)
        keys = [jwk(RSA, "RS256", kid="one"), jwk(EC, "ES256", kid="two"), jwk(ED, "EdDSA", kid="three")]
        self.edge.key_sets.update({URL: json.dumps({"keys": keys})})
        for one in (
            good,
            token(EC, "ES256", {"kid": "two"}),
            token(ED, "EdDSA", {"kid": "three"}),
            token(EC, "ES256"),
        ):
            self.assertEqual(self.status(port, one), 200)
        self.assertEqual(self.status(port, token(EC, "ES256", {"kid": "one"})), 401)
        self.assertEqual(self.status(port, token(RSA, "RS256", {"kid": "four"})), 401)
        self.assertEqual(missed, [URL, URL])
        self.edge.key_sets.update({URL: json.dumps({"keys": keys[1:]})})
        self.assertEqual(self.status(port, good), 401)

    def test_a_set_is_read_with_care(self) -> None:
        """Keys for other things, secrets and nonsense are no keys here; a key says what it is for."""
        text = json.dumps(
            {
                "keys": [
                    jwk(RSA, "RS256", kid="enc", use="enc"),
                    {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
                    {"kty": "x"},
                    "x",
                    jwk(RSA, "RS256", kid="good", alg="RS512"),
                ]
            }
        )
        (key,) = keys_of(text)
        self.assertEqual((key.id, key.algorithm), ("good", "RS512"))
        for bad in ("[]", "{}", "x", '{"keys": 1}'):
            self.assertRaises(ValueError, keys_of, bad)
