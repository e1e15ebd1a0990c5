"""Names of addresses that lead back to them, or do not. RFC 8601 3."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.iprev import Iprev, iprev
from tests.support.answers import FAILS, Zone, run

POINTER = ("1.2.0.192.in-addr.arpa", "PTR")


class IprevTests(SynchronousTestCase):
    def judge(self, zone: Zone, address: str = "192.0.2.1") -> Iprev:
        return run(iprev(address), zone)

    def test_a_name_that_leads_back_passes(self) -> None:
        """Any of several; IPv6 and mapped addresses too."""
        zone: Zone = {POINTER: ["y.test", "x.test"], ("x.test", "A"): ["192.0.2.9", "192.0.2.1"]}
        self.assertEqual(self.judge(zone), Iprev("pass", "x.test"))
        self.assertEqual(self.judge(zone, "::ffff:192.0.2.1"), Iprev("pass", "x.test"))
        six = "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa"
        self.assertEqual(
            self.judge({(six, "PTR"): ["x.test"], ("x.test", "AAAA"): ["2001:DB8::1"]}, "2001:db8::1").result, "pass"
        )

    def test_other_names_do_not(self) -> None:
        """None at all is permerror, one that leads elsewhere fail, silence temperror (RFC 8601 2.7.3)."""
        self.assertEqual(self.judge({}).result, "permerror")
        self.assertEqual(self.judge({POINTER: ["x.test"], ("x.test", "A"): ["192.0.2.9"]}).result, "fail")
        self.assertEqual(self.judge({POINTER: FAILS}).result, "temperror")
        self.assertEqual(self.judge({POINTER: ["x.test"], ("x.test", "A"): FAILS}).result, "temperror")
