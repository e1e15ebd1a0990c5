"""Authentication-Results: written so that others can read it, and taken out where it is forged. RFC 8601."""

from __future__ import annotations

import authres
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.authresults import MAX_LINE, MIN_ROOM, Entry, authserv_id, field, without_forged
from dcrouter.wire.dkim.canonical import split

ENTRIES = [
    Entry("iprev", "pass", (("policy.iprev", "2001:db8::1"),), "mail.x.test"),
    Entry("spf", "fail", (("smtp.mailfrom", "a@x.test"),)),
    Entry("dkim", "pass", (("header.d", "x.test"), ("header.b", "ab/+=")), "1024 bits (weak)"),
]


class WritingTests(SynchronousTestCase):
    def test_a_field_is_a_line_for_each_result(self) -> None:
        """Values that are no tokens are quoted, comments hold no brackets (RFC 8601 2.2)."""
        self.assertEqual(
            field("mx.test", ENTRIES),
            b"Authentication-Results: mx.test;\r\n"
            b'\tiprev=pass (mail.x.test) policy.iprev="2001:db8::1";\r\n'
            b"\tspf=fail smtp.mailfrom=a@x.test;\r\n"
            b'\tdkim=pass (1024 bits ?weak?) header.d=x.test header.b="ab/+="\r\n',
        )
        self.assertEqual(field("mx.test", []), b"Authentication-Results: mx.test;\r\n\tnone\r\n")

    def test_another_reader_understands_it(self) -> None:
        """The authres library finds what was written, filled up or not."""
        for room in (None, 1500):
            text = field("mx.test", ENTRIES, room).decode().replace("\r\n", "\n").rstrip()
            read = authres.AuthenticationResultsHeader.parse(text)
            self.assertEqual(read.authserv_id, "mx.test")
            self.assertEqual(
                [(one.method, one.result) for one in read.results], [(e.method, e.result) for e in ENTRIES]
            )
            values = [(each.type + "." + each.name, each.value) for one in read.results for each in one.properties]
            self.assertEqual(values, [pair for entry in ENTRIES for pair in entry.properties])

    @given(st.text(max_size=400), st.text(max_size=400))
    def test_a_value_never_leaves_its_place(self, value: str, comment: str) -> None:
        """Whatever a stranger has written: one field, in ASCII, of lines that are not too long."""
        written = field("mx.test", [Entry("spf", "none", (("smtp.mailfrom", value),), comment)])
        self.assertTrue(written.isascii())
        self.assertEqual(len(split(written)), 1)
        self.assertLessEqual(max(map(len, written.split(b"\r\n"))), MAX_LINE)
        self.assertEqual(authserv_id(split(written)[0].value), b"mx.test")

    @given(st.integers(MIN_ROOM, 4000), st.integers(0, 8))
    def test_a_field_fills_its_room(self, room: int, signatures: int) -> None:
        """To the octet, whatever has to be left out."""
        long = Entry("dkim", "pass", (("header.d", "d" * 250), ("header.s", "s" * 250)))
        written = field("mx.test", [*ENTRIES, *[long] * signatures], room)
        self.assertEqual(len(written), room)
        self.assertEqual(len(split(written)), 1)
        self.assertTrue(written.endswith(b"\r\n"))
        self.assertIn(b"spf=fail", written)
        self.assertLessEqual(max(map(len, written.split(b"\r\n"))), MAX_LINE)


class ForgedTests(SynchronousTestCase):
    def test_what_says_to_be_ours_goes(self) -> None:
        """In any spelling, folded, with a version, wherever it stands; also what cannot be read (RFC 8601 5)."""
        for forged in (
            b"Authentication-Results: mx.test; spf=pass",
            b"authentication-results:MX.Test.;spf=pass",
            b"Authentication-Results : mx.test 1; spf=pass",
            b"Authentication-Results:\r\n\t(a (b)\r\n mx.test; spf=pass",
            b"Authentication-Results: (\\)) mx.test;\r\n \r\n\tspf=pass",
            b'Authentication-Results: "mx.test"; spf=pass',
            b'Authentication-Results: "m\\x.test"; spf=pass',
            b"Authentication-Results: mx.test",
            b"Authentication-Results: mx.test1 spf=pass",
            b"Authentication-Results: (" + b"(" * 20_000,
            b"Authentication-Results:",
            b"Authentication-Results: ;;",
        ):
            for head in (forged + b"\r\nTo: a\r\n", b"To: a\r\n" + forged + b"\r\n"):
                self.assertEqual(without_forged(head, "mx.test"), b"To: a\r\n", forged)
        folded = b"Authentication-Results: mx.test\r\nAuthentication-Results: mx.test\r\n\t; x\r\nTo: a\r\n"
        self.assertEqual(without_forged(folded, "mx.test"), b"To: a\r\n")
        twice = b"Authentication-Results: mx.test; x\r\n" * 2
        self.assertEqual(without_forged(twice + b"To: a\r\n" + twice, "mx.test"), b"To: a\r\n")

    def test_all_else_stays(self) -> None:
        """Those of others, of other fields, and in other fields; octet for octet."""
        head = (
            b"Authentication-Results: mx.other; spf=pass\r\n"
            b"ARC-Authentication-Results: i=1; mx.test; spf=pass\r\n"
            b"X-Authentication-Results: mx.test; spf=pass\r\n"
            b"Subject: x\r\n Authentication-Results: mx.test; spf=pass\r\n"
            b"no field\r\n\tat all\r\n"
        )
        self.assertEqual(without_forged(head, "mx.test"), head)
        self.assertEqual(without_forged(b"", "mx.test"), b"")
