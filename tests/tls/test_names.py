from __future__ import annotations

from ipaddress import ip_address

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.tls.names import as_certified, covers, general_name


class NameTests(SynchronousTestCase):
    def test_covering(self) -> None:
        """One label is what a wildcard stands for."""
        names = {"*.example.com", "b.example.org"}
        for name, covered in (
            ("a.example.com", True),
            ("a.b.example.com", False),
            ("example.com", False),
            ("b.example.org", True),
        ):
            self.assertEqual(covers(names, name), covered, name)

    def test_as_they_stand_in_a_certificate(self) -> None:
        """No certificate is for more than one label."""
        for name, there in (("**.Example.com", "*.example.com"), ("*.a.test", "*.a.test"), ("A.test", "a.test")):
            self.assertEqual(as_certified(name), there)
            self.assertEqual(general_name(there), x509.DNSName(there))
        for address in ("192.0.2.1", "2001:db8::1"):
            self.assertEqual(general_name(address), x509.IPAddress(ip_address(address)))
        self.assertRaises(ValueError, general_name, "\u00fc.test")
