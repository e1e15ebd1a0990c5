"""check_host where the public suite says nothing: limits, what is asked, what is never raised. RFC 7208."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.asking import Question
from dcrouter.wire.spf.check import Spf, check_host
from tests.support.answers import FAILS, Zone, run


def check(zone: Zone, sender: str = "a@x.test", address: str = "192.0.2.1", asked: list[Question] | None = None) -> Spf:
    asking = check_host(address, sender.rpartition("@")[2], sender, "helo.x.test", hostname="mx.test", now=0.0)
    return run(asking, zone, asked)


class CheckTests(SynchronousTestCase):
    def test_a_mapped_address_is_an_ipv4_one(self) -> None:
        """::ffff:192.0.2.1 meets ip4 (RFC 7208 5)."""
        zone = {("x.test", "TXT"): ["v=spf1 ip4:192.0.2.0/24 -all"]}
        self.assertEqual(check(zone, address="::ffff:192.0.2.1").result, "pass")

    def test_silence_is_temperror_wherever_it_is(self) -> None:
        """For the record, an include, a mechanism: never a pass, never a fail (RFC 7208 2.6.6)."""
        for term, silent in (("", ("x.test", "TXT")), ("a", ("x.test", "A")), ("include:y.test", ("y.test", "TXT"))):
            zone: Zone = {("x.test", "TXT"): [f"v=spf1 {term} -all"], silent: FAILS}
            self.assertEqual(check(zone).result, "temperror", term)

    def test_an_include_of_itself_ends(self) -> None:
        """After ten terms that ask (RFC 7208 4.6.4)."""
        asked: list[Question] = []
        result = check({("x.test", "TXT"): ["v=spf1 include:x.test -all"]}, asked=asked)
        self.assertEqual(result.result, "permerror")
        self.assertEqual(len(asked), 11)

    def test_two_empty_answers_are_enough(self) -> None:
        """A third is permerror (RFC 7208 4.6.4)."""
        for names, result in (("n1 n2", "fail"), ("n1 n2 n3", "permerror")):
            terms = " ".join(f"a:{name}.test" for name in names.split())
            self.assertEqual(check({("x.test", "TXT"): [f"v=spf1 {terms} -all"]}).result, result)

    def test_an_explanation_that_a_reply_cannot_hold_is_none(self) -> None:
        """It is the words of a stranger: no line breaks (RFC 7208 6.2)."""
        for words, said in (("no mail\r\nfrom here", ""), ("not %{i}", "not 192.0.2.1")):
            zone = {("x.test", "TXT"): ["v=spf1 -all exp=e.test"], ("e.test", "TXT"): [words]}
            self.assertEqual(check(zone), Spf("fail", said))

    @settings(max_examples=300)
    @given(
        st.text("v=spf1 +-~?allmxipr4:/{}%0123456789.dehosr_,\xe9\0", max_size=80),
        st.text("abc.@-%\xe9\0", max_size=20),
    )
    def test_no_record_and_no_sender_raises(self, record: str, sender: str) -> None:
        """Whatever is written, it is one of the seven results."""
        zone = {("x.test", "TXT"): [f"v=spf1 {record}"]}
        result = check(zone, sender=f"{sender}@x.test").result
        self.assertIn(result, {"none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"})
