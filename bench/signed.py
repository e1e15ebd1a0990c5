"""Mail that is really signed, and the DNS that vouches for it: messages of many senders, and a dnsmasq that knows them.

SPF is looked up and says nothing (`?all`), DMARC says `reject`: what comes through has a DKIM signature that fits.
Signatures are RSA-2048, every fourth one Ed25519, relaxed/relaxed over header and body (RFC 6376, RFC 8463).
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import random
import re
import socket
from contextlib import ExitStack
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.machine import find
from bench.place import free_port
from bench.process import Failed, Program, wait_for

DOMAINS = 20
MESSAGES = 200
LETTERS = "letters.jsonl"
"""A file of them: a line [sender, text] each."""
_SIGNED = ("from", "to", "subject", "date", "message-id")


class Signers:
    """`records`: lines for dnsmasq.conf."""

    def __init__(self) -> None:
        self.records: list[str] = ["synth-domain=clients.bench.test,127.0.0.0/24,c-"]
        self._keys: list[rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey] = []
        for number in range(DOMAINS):
            domain = f"sender{number}.test"
            key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
            if number % 4 == 3:
                key = ed25519.Ed25519PrivateKey.generate()
                public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
                record = f"v=DKIM1; k=ed25519; p={base64.b64encode(public).decode()}"
            else:
                key = rsa.generate_private_key(65537, 2048)
                public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
                record = f"v=DKIM1; p={base64.b64encode(public).decode()}"
            self._keys.append(key)
            parts = ",".join(f'"{record[at : at + 250]}"' for at in range(0, len(record), 250))
            self.records += [
                f"txt-record=s._domainkey.{domain},{parts}",
                f'txt-record={domain},"v=spf1 include:_spf.{domain} ip4:192.0.2.0/24 ?all"',
                f'txt-record=_spf.{domain},"v=spf1 ip4:198.51.100.0/24 -all"',
                f'txt-record=_dmarc.{domain},"v=DMARC1; p=reject"',
                f"host-record={domain},192.0.2.1",
            ]

    def message(self, number: int, size: int) -> tuple[str, bytes]:
        """(sender, message of about `size` octets with CRLF, dots not stuffed)."""
        at = number % DOMAINS
        domain = f"sender{at}.test"
        chance = random.Random(number)
        words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "", "runs", "home"]
        lines: list[str] = []
        while sum(map(len, lines)) + 2 * len(lines) < size:
            lines.append(" ".join(chance.choice(words) for _ in range(12)))
        body = "\r\n".join(lines).encode() + b"\r\n"
        head = {
            "from": f" User {number} <user{number}@{domain}>",
            "to": " b@example.test",
            "subject": f" Message {number} of  many",
            "date": " Sat, 21 Nov 2026 12:00:00 +0000",
            "message-id": f" <{number}@{domain}>",
        }
        relaxed = re.sub(rb"[ \t]+", b" ", body).replace(b" \r\n", b"\r\n")
        digest = base64.b64encode(hashlib.sha256(relaxed).digest()).decode()
        key = self._keys[at]
        kind = "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ed25519"
        tags = f"v=1; a={kind}-sha256; c=relaxed/relaxed; d={domain}; s=s; h={':'.join(_SIGNED)}; bh={digest}; b="
        fields = [f"{name}:{' '.join(head[name].split())}" for name in _SIGNED]
        signed = "\r\n".join([*fields, f"dkim-signature:{tags}"]).encode()
        value = (
            key.sign(signed, padding.PKCS1v15(), SHA256())
            if isinstance(key, rsa.RSAPrivateKey)
            else key.sign(hashlib.sha256(signed).digest())
        )
        whole = f"DKIM-Signature: {tags}{base64.b64encode(value).decode()}\r\n"
        whole += "".join(f"{name.title()}:{value}\r\n" for name, value in head.items())
        return f"user{number}@{domain}", whole.encode() + b"\r\n" + body


class NameServer:
    """A dnsmasq with these records; nothing else has an answer."""

    def __init__(self, directory: Path, records: list[str]) -> None:
        program = find("dnsmasq")
        if program is None:
            raise Failed("dnsmasq is not installed")
        self.port = free_port()
        here = directory / "dnsmasq.conf"
        lines = [
            "keep-in-foreground",
            "no-resolv",
            "no-hosts",
            "bind-interfaces",
            "pid-file=",
            "local=/test/",
            "auth-ttl=60",
        ]
        lines += ["listen-address=127.0.0.1", f"user={getpass.getuser()}", f"port={self.port}", "local-ttl=60"]
        here.write_text("\n".join([*lines, "local=/arpa/", *records]) + "\n")
        self._program = Program([program, "-C", str(here)], directory / "dnsmasq.log")
        wait_for("dnsmasq answers", 10.0, self._answers)

    def stop(self) -> None:
        self._program.stop()

    def _answers(self) -> bool:
        self._program.check()
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0


def signed_mail(directory: Path, size: int, stack: ExitStack) -> int:
    """Writes LETTERS into `directory`, and starts a name server for them, whose port it gives."""
    signers = Signers()
    letters = [signers.message(number, size) for number in range(MESSAGES)]
    text = "".join(json.dumps([sender, letter.decode()]) + "\n" for sender, letter in letters)
    (directory / LETTERS).write_text(text)
    server = NameServer(directory, signers.records)
    stack.callback(server.stop)
    return server.port
