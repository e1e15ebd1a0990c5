"""An issuer of tokens on loopback: its keys by JWKS, its opinion by introspection (RFC 7662), in its own thread."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

ISSUER, AUDIENCE = "https://id.test", "mail"
CLIENT, SECRET = "mx 1", "s:e/c"


class Issuer:
    """`active`: opaque token -> what introspection says of it. `held`: while it is set, nothing is answered."""

    def __init__(self, cleanup: Callable[[Callable[[], Any]], Any]) -> None:
        self.keys = {"one": ec.generate_private_key(ec.SECP256R1())}
        self.active: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.status = 200
        self.held = threading.Event()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append("keys")
                self.say(200, issuer.key_set())

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                issuer.asked.append(form["token"][0])
                wanted = "Basic " + b64encode(b"mx%201:s%3Ae%2Fc").decode()
                if self.headers["authorization"] != wanted:
                    self.say(401, "{}")
                    return
                while issuer.held.is_set():
                    time.sleep(0.01)
                self.say(issuer.status, json.dumps(issuer.active.get(form["token"][0], {"active": False})))

            def say(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        place = f"127.0.0.1:{self._server.server_port}"
        self.jwks_url = f"http://{place}/jwks"
        self.introspection_url = f"http://{place}/introspect"
        cleanup(self.close)

    def close(self) -> None:
        """It is gone; whoever asks is refused."""
        self.held.clear()
        self._server.shutdown()
        self._server.server_close()

    def key_set(self) -> str:
        made = [
            {**json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(key.public_key())), "kid": kid, "alg": "ES256"}
            for kid, key in self.keys.items()
        ]
        return json.dumps({"keys": made})

    def token(self, email: str = "dave@x.test", kid: str = "one", **claims: Any) -> str:
        """Signed; a claim of None is left out."""
        given = {"email": email, "iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 60, **claims}
        return jwt.encode(
            {name: value for name, value in given.items() if value is not None}, self.keys[kid], "ES256", {"kid": kid}
        )


def said(mechanism: str, account: str, token: str) -> bytes:
    """What a client says by OAUTHBEARER or XOAUTH2."""
    if mechanism == "XOAUTH2":
        return f"user={account}\x01auth=Bearer {token}\x01\x01".encode()
    return (
        f"n,{f'a={account}' if account else ''},\x01host=mail.test\x01port=465\x01auth=Bearer {token}\x01\x01".encode()
    )
