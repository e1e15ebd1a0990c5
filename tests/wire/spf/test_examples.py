"""The examples that RFC 7208 itself gives: appendix A (records and who passes them), section 7.4 (macros)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.asking import Question
from tests.support.answers import Zone
from tests.wire.spf.test_check import check

DNS: Zone = {
    ("example.com", "A"): ["192.0.2.10", "192.0.2.11"],
    ("example.com", "MX"): ["mail-a.example.com", "mail-b.example.com"],
    ("amy.example.com", "A"): ["192.0.2.65"],
    ("bob.example.com", "A"): ["192.0.2.66"],
    ("mail-a.example.com", "A"): ["192.0.2.129"],
    ("mail-b.example.com", "A"): ["192.0.2.130"],
    ("example.org", "MX"): ["mail-c.example.org"],
    ("mail-c.example.org", "A"): ["192.0.2.140"],
    ("10.2.0.192.in-addr.arpa", "PTR"): ["example.com"],
    ("11.2.0.192.in-addr.arpa", "PTR"): ["example.com"],
    ("65.2.0.192.in-addr.arpa", "PTR"): ["amy.example.com"],
    ("66.2.0.192.in-addr.arpa", "PTR"): ["bob.example.com"],
    ("129.2.0.192.in-addr.arpa", "PTR"): ["mail-a.example.com"],
    ("130.2.0.192.in-addr.arpa", "PTR"): ["mail-b.example.com"],
    ("140.2.0.192.in-addr.arpa", "PTR"): ["mail-c.example.org"],
    ("4.0.0.10.in-addr.arpa", "PTR"): ["bob.example.com"],
}
CLIENTS = (10, 11, 65, 66, 129, 130, 131, 140, 143)


class ExampleTests(SynchronousTestCase):
    def passing(self, zone: Zone, sender: str = "a@example.com") -> list[int]:
        """The last octets of those of CLIENTS that pass; the others fail."""
        results = {one: check({**DNS, **zone}, sender, f"192.0.2.{one}").result for one in CLIENTS}
        self.assertLessEqual(set(results.values()), {"pass", "fail"})
        return [one for one, result in results.items() if result == "pass"]

    def test_simple_examples(self) -> None:
        """Appendix A.1; reverse names count only where they lead back."""
        for record, passing in (
            ("+all", list(CLIENTS)),
            ("a -all", [10, 11]),
            ("a:example.org -all", []),
            ("mx -all", [129, 130]),
            ("mx:example.org -all", [140]),
            ("mx mx:example.org -all", [129, 130, 140]),
            ("mx/30 mx:example.org/30 -all", [129, 130, 131, 140, 143]),
            ("ptr -all", [10, 11, 65, 66, 129, 130]),
            ("ip4:192.0.2.128/28 -all", [129, 130, 131, 140, 143]),
        ):
            self.assertEqual(self.passing({("example.com", "TXT"): [f"v=spf1 {record}"]}), passing, record)
        rogue = check({**DNS, ("example.com", "TXT"): ["v=spf1 ptr -all"]}, "a@example.com", "10.0.0.4")
        self.assertEqual(rogue.result, "fail")

    def test_several_domains(self) -> None:
        """Appendix A.2: by include, and by redirect to that."""
        zone: Zone = {
            ("example.org", "TXT"): ["v=spf1 include:example.com include:example.net -all"],
            ("la.example.org", "TXT"): ["v=spf1 redirect=example.org"],
            ("example.com", "TXT"): ["v=spf1 mx -all"],
            ("example.net", "TXT"): ["v=spf1 ip4:192.0.2.143 -all"],
        }
        for sender in ("a@example.org", "a@la.example.org"):
            self.assertEqual(self.passing(zone, sender), [129, 130, 143])

    def test_a_list_in_dns(self) -> None:
        """Appendix A.3: who may send from anywhere, and who from one address."""
        zone: Zone = {
            ("example.com", "TXT"): [
                "v=spf1 mx include:mobile-users._spf.%{d} include:remote-users._spf.%{d} -all",
            ],
            ("mobile-users._spf.example.com", "TXT"): ["v=spf1 exists:%{l1r+}.%{d}"],
            ("remote-users._spf.example.com", "TXT"): ["v=spf1 exists:%{ir}.%{l1r+}.%{d}"],
            ("mary.mobile-users._spf.example.com", "A"): ["127.0.0.2"],
            ("65.2.0.192.joel.remote-users._spf.example.com", "A"): ["127.0.0.2"],
        }
        for sender, passing in (
            ("mary", list(CLIENTS)),
            ("mary+lists", list(CLIENTS)),
            ("joel", [65, 129, 130]),
            ("fred", [129, 130]),
        ):
            self.assertEqual(self.passing(zone, f"{sender}@example.com"), passing, sender)

    def test_several_requirements(self) -> None:
        """Appendix A.4: in a network, and with a name that leads back."""
        zone: Zone = {
            ("example.com", "TXT"): ["v=spf1 -include:ip4._spf.%{d} -include:ptr._spf.%{d} +all"],
            ("ip4._spf.example.com", "TXT"): ["v=spf1 -ip4:192.0.2.0/24 +all"],
            ("ptr._spf.example.com", "TXT"): ["v=spf1 -ptr:example.com +all"],
        }
        self.assertEqual(self.passing(zone), [10, 11, 65, 66, 129, 130])
        self.assertEqual(check({**DNS, **zone}, "a@example.com", "10.0.0.4").result, "fail")

    def test_macros(self) -> None:
        """Section 7.4, by what is asked for."""
        for address, macro, name in (
            ("192.0.2.3", "%{s}", "strong-bad@email.example.com"),
            ("192.0.2.3", "%{o}", "email.example.com"),
            ("192.0.2.3", "%{d4}", "email.example.com"),
            ("192.0.2.3", "%{d3}", "email.example.com"),
            ("192.0.2.3", "%{d2}", "example.com"),
            ("192.0.2.3", "%{d1}", "com"),
            ("192.0.2.3", "%{dr}", "com.example.email"),
            ("192.0.2.3", "%{d2r}", "example.email"),
            ("192.0.2.3", "%{l}", "strong-bad"),
            ("192.0.2.3", "%{l-}", "strong.bad"),
            ("192.0.2.3", "%{lr}", "strong-bad"),
            ("192.0.2.3", "%{lr-}", "bad.strong"),
            ("192.0.2.3", "%{l1r-}", "strong"),
            ("192.0.2.3", "%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
            ("192.0.2.3", "%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            ("192.0.2.3", "%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
            ("192.0.2.3", "%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
            ("192.0.2.3", "%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
            (
                "2001:db8::cb01",
                "%{ir}.%{v}._spf.%{d2}",
                "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com",
            ),
        ):
            asked: list[Question] = []
            # What follows the macro keeps the name one that DNS can be asked for (7.3).
            zone: Zone = {("email.example.com", "TXT"): [f"v=spf1 exists:{macro}.x.test -all"]}
            check(zone, "strong-bad@email.example.com", address, asked)
            self.assertEqual(asked[-1].name.lower(), f"{name}.x.test", macro)
