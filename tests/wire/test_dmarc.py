"""DMARC by RFC 9989: records, the tree walk, alignment, which policy holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.asking import Question
from dcrouter.wire.dmarc import Dmarc, Record, judge, parse, steps
from tests.support.answers import FAILS, Zone, run

REJECT = "v=DMARC1; p=reject"


def of(author: str, zone: Zone, *dkim: str, spf: str | None = None, asked: list[Question] | None = None) -> Dmarc:
    return run(judge(author, spf=spf, dkim=dkim), zone, asked)


def records(**texts: str) -> dict[tuple[str, str], list[str]]:
    """`_` in a keyword is a dot."""
    return {(f"_dmarc.{name.replace('_', '.')}", "TXT"): [text] for name, text in texts.items()}


class RecordTests(SynchronousTestCase):
    def test_what_is_said_is_understood(self) -> None:
        """Tags in any order behind v=, blanks anywhere, unknown tags and those of RFC 7489 ignored."""
        self.assertEqual(
            parse("v=DMARC1;sp=quarantine ; p = Reject; np=none; adkim=s; aspf=r; pct=10; ri=1; x=y; t=y; psd=n;"),
            Record(
                policy="reject",
                subdomains="quarantine",
                strict_dkim=True,
                psd=False,
                testing=True,
            ),
        )

    def test_a_policy_may_lack(self) -> None:
        """Then it is none; a wrong one is none where reports are wanted, else it is no record (RFC 9989 4.7)."""
        self.assertEqual(parse("v=DMARC1"), Record())
        self.assertEqual(parse("v=DMARC1; p=all; rua=mailto:a@x.test"), Record())
        self.assertIsNone(parse("v=DMARC1; p=all"))

    def test_what_is_no_record(self) -> None:
        """Another version, in another place, in another case."""
        for text in ("", "v=DMARC2; p=none", "p=none; v=DMARC1", "V=DMARC1; p=none", "v=dmarc1; p=none", "v=spf1 -all"):
            self.assertIsNone(parse(text), text)

    @given(st.text("v=DMARC1;psdnuy rejct\xe9", max_size=60))
    def test_no_record_raises(self, text: str) -> None:
        """Whatever stands in DNS."""
        parse("v=DMARC1;" + text)


class WalkTests(SynchronousTestCase):
    def test_each_label_is_a_step(self) -> None:
        """Up to the top-level domain (RFC 9989 4.10)."""
        self.assertEqual(steps("a.b.example.test"), ["a.b.example.test", "b.example.test", "example.test", "test"])

    def test_long_names_are_cut(self) -> None:
        """From eight labels on, seven come next: never more than eight questions."""
        for labels in (8, 9, 30):
            name = ".".join(f"l{number}" for number in range(labels))
            walked = steps(name)
            self.assertEqual(len(walked), 8)
            self.assertEqual([step.count(".") + 1 for step in walked], [labels, 7, 6, 5, 4, 3, 2, 1])

    def test_the_example_of_a_long_name(self) -> None:
        """RFC 9989 4.10: twelve labels and more, eight questions."""
        self.assertEqual(
            steps("a.b.c.d.e.f.g.h.i.j.mail.example.com"),
            [
                "a.b.c.d.e.f.g.h.i.j.mail.example.com",
                "g.h.i.j.mail.example.com",
                "h.i.j.mail.example.com",
                "i.j.mail.example.com",
                "j.mail.example.com",
                "mail.example.com",
                "example.com",
                "com",
            ],
        )

    def test_banks_under_a_public_suffix(self) -> None:
        """A suffix with psd=y and two organizations below it: each is aligned with its own hosts, never with the other,
        and a host that does not exist has the suffix's np=. RFC 9989 4.10.2.
        """
        zone = records(
            bank_example="v=DMARC1; p=reject; psd=y; np=reject",
            giant_bank_example="v=DMARC1; p=quarantine",
            mega_bank_example="v=DMARC1; p=none",
        )
        self.assertEqual(of("giant.bank.example", zone, "mail.giant.bank.example").result, "pass")
        self.assertEqual(of("giant.bank.example", zone, "mega.bank.example").result, "fail")
        self.assertEqual(of("mail.mega.bank.example", zone, "mega.bank.example").result, "pass")
        self.assertEqual(of("gone.bank.example", zone, "bank.example").policy, "reject")

    def test_the_organization_is_the_highest_with_a_record(self) -> None:
        """Its sp= holds for names below it; and they are aligned with each other."""
        zone = {**records(example_test="v=DMARC1; p=reject; sp=quarantine"), ("a.example.test", "A"): ["192.0.2.1"]}
        self.assertEqual(of("a.example.test", zone), Dmarc("fail", "quarantine", "example.test"))
        self.assertEqual(of("a.example.test", zone, "b.example.test").result, "pass")

    def test_names_that_do_not_exist_have_a_policy_of_their_own(self) -> None:
        """np= (RFC 9989 4.7)."""
        zone = records(example_test="v=DMARC1; p=none; sp=quarantine; np=reject")
        self.assertEqual(of("gone.example.test", zone), Dmarc("fail", "reject", "example.test"))

    def test_a_public_suffix_is_no_organization(self) -> None:
        """psd=y: the organization is one label below it, and its policy holds where that one has none."""
        zone = {
            **records(co_test="v=DMARC1; p=none; np=reject; psd=y"),
            ("a.co.test", "A"): ["192.0.2.1"],
            ("b.co.test", "A"): ["192.0.2.1"],
        }
        self.assertEqual(of("a.co.test", zone, "b.co.test"), Dmarc("fail", "none", "co.test"))
        self.assertEqual(of("x.a.co.test", zone, "y.a.co.test").result, "pass")
        self.assertEqual(of("gone.co.test", zone), Dmarc("fail", "reject", "co.test"))

    def test_a_domain_may_say_that_it_is_an_organization(self) -> None:
        """psd=n ends the walk: what is above it is somebody else (RFC 9989 4.10.2)."""
        zone = records(uni_test=REJECT, dept_uni_test="v=DMARC1; p=reject; psd=n")
        asked: list[Question] = []
        self.assertEqual(of("dept.uni.test", zone, "uni.test", asked=asked).result, "fail")
        self.assertEqual(of("a.dept.uni.test", zone, "dept.uni.test").result, "pass")
        self.assertNotIn("_dmarc.uni.test", [one.name for one in asked][:1])

    def test_two_records_are_none(self) -> None:
        """RFC 9989 4.10.1."""
        self.assertEqual(of("x.test", {("_dmarc.x.test", "TXT"): [REJECT, REJECT]}), Dmarc("none"))
        self.assertEqual(of("x.test", {("_dmarc.x.test", "TXT"): [REJECT, "other"]}).policy, "reject")


class JudgeTests(SynchronousTestCase):
    def test_strict_alignment_is_equality(self) -> None:
        """adkim=s, aspf=s."""
        zone = records(x_test="v=DMARC1; p=reject; adkim=s; aspf=r")
        self.assertEqual(of("x.test", zone, "a.x.test").result, "fail")
        self.assertEqual(of("x.test", zone, spf="a.x.test").result, "pass")
        self.assertEqual(of("x.test", zone, "X.test.").result, "pass")

    def test_a_test_is_milder(self) -> None:
        """t=y: reject is quarantine, quarantine is none."""
        self.assertEqual(of("x.test", records(x_test="v=DMARC1; p=reject; t=y")).policy, "quarantine")
        self.assertEqual(of("x.test", records(x_test="v=DMARC1; p=quarantine; t=y")).policy, "none")

    def test_silence_is_temperror(self) -> None:
        """Of the policy, of a step of the walk, and of whoever would have been aligned."""
        self.assertEqual(of("x.test", {("_dmarc.x.test", "TXT"): FAILS}).result, "temperror")
        self.assertEqual(of("a.x.test", {("_dmarc.x.test", "TXT"): FAILS}).result, "temperror")
        zone = records(x_test=REJECT)
        self.assertEqual(run(judge("x.test", spf=None, dkim=(), unsure=("a.x.test",)), zone).result, "temperror")
        self.assertEqual(run(judge("x.test", spf=None, dkim=(), unsure=("y.test",)), zone).result, "fail")

    def test_strangers_are_not_walked_to(self) -> None:
        """A domain under another top costs no question."""
        asked: list[Question] = []
        self.assertEqual(of("x.test", records(x_test=REJECT), "x.other", asked=asked).result, "fail")
        self.assertEqual([one.name for one in asked], ["_dmarc.x.test"])

    def test_an_author_without_a_domain(self) -> None:
        """Has no policy, and nothing is asked."""
        for author in ("", "localhost", "a..test", "[192.0.2.1]", "é.test"):
            self.assertEqual(of(author, {}).result, "none", author)
