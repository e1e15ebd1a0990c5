"""The mail server's key and its TLSA record, with certificates from Pebble."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.client import ask
from tests.support.ordering import issued, leaf_of, ordering
from tests.support.pebble import ChallengeDns, Pebble
from tests.support.router import Router, until

MAIL = """
  dane: {rollover: true}
email: {hostname: mail.example.test, ports: [{port: $smtp, kind: smtp}, {port: $smtps, kind: smtps}]}
"""


def key_of(leaf: x509.Certificate) -> str:
    """What a record 3 1 1 has of it."""
    return sha256(leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


class TestRollover(SynchronousTestCase):
    def records(self, router: Router) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(router.state / "admin.sock", "GET", "/dns")["records"]
        return found

    def test_a_renewal_keeps_the_key_whose_record_is_published(self) -> None:
        """From the first moment, when the internal CA's certificate serves; the next key is told of, and waits."""
        dns = ChallengeDns()
        self.addCleanup(dns.close)
        pebble = Pebble(dns.dns)
        self.addCleanup(pebble.close)
        router = ordering(pebble, MAIL, ports=("smtp", "smtps"))
        self.addCleanup(router.close)
        router.start()
        inside = key_of(leaf_of(router.ports["smtps"], None))
        first = issued(router.ports["smtps"], None)
        self.assertEqual(key_of(first), inside)
        told = self.records(router)
        self.assertEqual(
            [(one["name"], one["use"], one["value"]) for one in told if one["use"] == "now"],
            [
                (f"_{router.ports[kind]}._tcp.mail.example.test.", "now", f"3 1 1 {inside}")
                for kind in ("smtp", "smtps")
            ],
        )
        (following,) = {one["value"] for one in told if one["use"] == "next"}
        ask(router.state / "admin.sock", "POST", "/certificates/renew", {"name": "mail.example.test"})
        until(lambda: leaf_of(router.ports["smtp"], None, starttls=True).serial_number != first.serial_number)
        self.assertEqual(key_of(leaf_of(router.ports["smtp"], None, starttls=True)), inside)
        self.assertEqual({one["value"] for one in self.records(router) if one["use"] == "next"}, {following})
