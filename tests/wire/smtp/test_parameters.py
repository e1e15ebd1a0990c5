"""What MAIL and RCPT ask for: read as it was meant, written as it was read, refused where it is not on offer."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.smtp.parameters import (
    MAX_ENVID,
    MAX_ORCPT,
    NO_OFFERS,
    NO_REPORT,
    NO_WISHES,
    Offers,
    Report,
    Wishes,
    orcpt_value,
    parse_report,
    parse_wishes,
)
from dcrouter.wire.smtp.xtext import to_xtext

ALL = Offers(dsn=True, hold=86_400, priority=True, requiretls=True)
NOW = 1_780_000_000.0


def wishes(*said: str, offers: Offers = ALL, tls: bool = True) -> Wishes:
    split = [(keyword.upper(), value) for keyword, _, value in (one.partition("=") for one in said)]
    return parse_wishes(split, offers, tls=tls, now=NOW)


def report(*said: str, offers: Offers = ALL) -> Report:
    return parse_report([(keyword, value) for keyword, _, value in (one.partition("=") for one in said)], offers)


class ParametersTests(SynchronousTestCase):
    def refused(self, code: bytes, call: Callable[..., object], *said: str, **more: object) -> None:
        error = self.assertRaises(WireError, call, *said, **more)
        self.assertEqual(error.reply[: len(code)], code, said)

    def test_dsn_parameters_mean_what_they_say(self) -> None:
        """RET, ENVID, NOTIFY and ORCPT, in any case, out of xtext. RFC 3461 4.1 to 4.4."""
        self.assertEqual(wishes(), NO_WISHES)
        self.assertEqual(report(), NO_REPORT)
        self.assertEqual(wishes("ret=full", "ENVID=QQ+2B+20314"), Wishes(ret="full", envid="QQ+ 314"))
        self.assertEqual(wishes("RET=HDRS").ret, "headers")
        self.assertEqual(report("NOTIFY=never").notify, "NEVER")
        self.assertEqual(report("NOTIFY=Delay,SUCCESS").notify, "SUCCESS,DELAY")
        self.assertEqual(report("NOTIFY=FAILURE,FAILURE").notify, "FAILURE")
        self.assertEqual(report("ORCPT=rfc822;Bob+2Bx@Example.COM").orcpt, "rfc822;Bob+x@Example.COM")
        self.assertEqual(report("ORCPT=x-local;a+3Db+20c").orcpt, "x-local;a=b c")

    def test_bad_dsn_parameters_are_501(self) -> None:
        """Unknown words, twice the same, broken xtext, what cannot be printed, what is too long. RFC 3461 4."""
        long = "x" * (MAX_ENVID + 1)
        for said in ("RET=", "RET=HALF", "ENVID=", "ENVID=a=b", "ENVID=a+2b", "ENVID=+0D", "ENVID=\u00fc"):
            self.refused(b"501 5.5.4", wishes, said)
        self.refused(b"501", wishes, f"ENVID={long}")
        self.refused(b"501", wishes, "RET=FULL", "RET=FULL")
        for said in ("NOTIFY=", "NOTIFY=NEVER,SUCCESS", "NOTIFY=ALWAYS", "NOTIFY=SUCCESS,", "NOTIFY=SUCCESS FAILURE"):
            self.refused(b"501 5.5.4", report, said)
        for said in ("", "bob@x", ";bob@x", "rfc822;", "rf c;x", "rfc822;a+0Ab", "rfc822;a+", "rfc822;\u00fc@x"):
            self.refused(b"501 5.5.4", report, f"ORCPT={said}")
        self.refused(b"501", report, "ORCPT=rfc822;" + "x" * MAX_ORCPT)
        self.refused(b"501", report, "NOTIFY=NEVER", "NOTIFY=NEVER")

    def test_original_recipients_beyond_ascii(self) -> None:
        """As they are, or with \\x{...}; nothing that could break a line. RFC 6533 3."""
        for written in ("j\u00f6rg@x", r"j\x{F6}rg@x"):
            self.assertEqual(report(f"ORCPT=utf-8;{written}").orcpt, "utf-8;j\u00f6rg@x")
        self.assertEqual(
            orcpt_value("utf-8;j\u00f6 +@x", utf8=True), r"utf-8;j\u00f6\x{20}\x{2B}@x".replace("\\u00f6", "\u00f6")
        )
        self.assertEqual(orcpt_value("utf-8;j\u00f6rg@x", utf8=False), r"utf-8;j\x{F6}rg@x")
        for written in (r"\x{A}", r"\x{0A}", r"\x{110000}", r"\x{D800}", r"a\b", "a+2Bb", ""):
            self.refused(b"501", report, f"ORCPT=utf-8;{written}")

    @given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=33))
    def test_what_is_read_is_what_was_written(self, text: str) -> None:
        """xtext and back, for each printable character."""
        self.assertEqual(wishes(f"ENVID={to_xtext(text)}").envid, text)
        self.assertEqual(report(f"ORCPT={orcpt_value(f'rfc822;{text}', utf8=False)}").orcpt, f"rfc822;{text}")
        for utf8 in (True, False):
            self.assertEqual(report(f"ORCPT={orcpt_value(f'utf-8;{text}', utf8=utf8)}").orcpt, f"utf-8;{text}")

    def test_a_message_is_held_for_a_time_or_until_one(self) -> None:
        """HOLDFOR and HOLDUNTIL, either, up to the bound; an instant that has passed is now. RFC 4865 4."""
        self.assertEqual(wishes("HOLDFOR=60").release, NOW + 60)
        self.assertEqual(wishes("HOLDFOR=86400").release, NOW + 86400)
        self.assertEqual(wishes("HOLDUNTIL=2026-05-28T20:27:40Z").release, NOW + 60)
        self.assertEqual(wishes("HOLDUNTIL=2026-05-28T22:27:40.5+02:00").release, NOW + 60.5)
        self.assertEqual(wishes("HOLDUNTIL=2020-01-01T00:00:00Z").release, NOW)
        for said in ("HOLDFOR=", "HOLDFOR=-1", "HOLDFOR=86401", "HOLDFOR=1.5", "HOLDFOR=9999999999"):
            self.refused(b"501 5.5.4", wishes, said)
        for said in (
            "",
            "tomorrow",
            "2026-05-28",
            "2026-13-28T20:27:40Z",
            "2026-05-28T20:27:40",
            "2030-01-01T00:00:00Z",
        ):
            self.refused(b"501 5.5.4", wishes, f"HOLDUNTIL={said}")
        self.refused(b"501", wishes, "HOLDFOR=1", "HOLDUNTIL=2026-05-28T20:27:40Z")

    def test_priorities_are_from_minus_nine_to_nine(self) -> None:
        """RFC 6710 4.1, 5."""
        for number in range(-9, 10):
            self.assertEqual(wishes(f"MT-PRIORITY={number}").priority, number)
        for value in ("", "10", "-10", "+1", "-0", "01", "high"):
            self.refused(b"501 5.5.4", wishes, f"MT-PRIORITY={value}")

    def test_requiretls_is_a_word_without_a_value_and_within_tls(self) -> None:
        """RFC 8689 2."""
        self.assertTrue(wishes("REQUIRETLS").requiretls)
        self.refused(b"501", wishes, "REQUIRETLS=yes")
        self.refused(b"555", wishes, "REQUIRETLS", tls=False)

    def test_what_is_not_on_offer_is_not_recognized(self) -> None:
        """555, each for itself (RFC 5321 4.1.1.11)."""
        for said in (
            "RET=FULL",
            "ENVID=x",
            "HOLDFOR=1",
            "HOLDUNTIL=2026-05-28T20:27:40Z",
            "MT-PRIORITY=1",
            "REQUIRETLS",
        ):
            self.refused(b"555 5.5.4", wishes, said, offers=NO_OFFERS)
        for said in ("NOTIFY=NEVER", "ORCPT=rfc822;a@b"):
            self.refused(b"555 5.5.4", report, said, offers=NO_OFFERS)
        self.refused(b"555", wishes, "BY=1;R")
        self.refused(b"555", report, "RRVS=x")

    def test_what_is_on_offer_is_announced(self) -> None:
        """REQUIRETLS within TLS only; how long a message may be held, and until when (RFC 4865 3)."""
        self.assertEqual(NO_OFFERS.keywords(tls=True, now=NOW), [])
        self.assertEqual(
            ALL.keywords(tls=True, now=NOW),
            ["DSN", "FUTURERELEASE 86400 2026-05-29T20:26:40Z", "MT-PRIORITY", "REQUIRETLS"],
        )
        self.assertNotIn("REQUIRETLS", ALL.keywords(tls=False, now=NOW))
