"""Paths of MAIL and RCPT."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.smtp.address import POSTMASTER, parse_path, split

GOOD = {
    "<u@d.example>": "u@d.example",
    "<u+tag.x@d.example>": "u+tag.x@d.example",
    "<U@D.Example>": "U@D.Example",
    "<u@localhost>": "u@localhost",
    "<u@xn--bcher-kva.example>": "u@xn--bcher-kva.example",
    '<"joe"@d.example>': "joe@d.example",
    '<"j\\o\\e"@d.example>': "joe@d.example",
    '<"joe smith"@d.example>': '"joe smith"@d.example',
    '<"a\\"b"@d.example>': '"a\\"b"@d.example',
    '<"u@x"@d.example>': '"u@x"@d.example',
    "<@a.example,@b.example:u@d.example>": "u@d.example",
    "<@h.example:u@d.example>": "u@d.example",
    "<u@[192.0.2.1]>": "u@[192.0.2.1]",
    "<u@[IPv6:2001:db8::1]>": "u@[IPv6:2001:db8::1]",
    f"<{'l' * 64}@d.example>": f"{'l' * 64}@d.example",
    f"<u@{'.'.join(['d' * 62] * 4)}>": f"u@{'.'.join(['d' * 62] * 4)}",
    "<d!u@h.example>": "d!u@h.example",
    "<a/b@d.example>": "a/b@d.example",
}

BAD = [
    "",
    "u@d.example",
    "<u@d.example",
    "<>",
    "<u>",
    "<@d.example>",
    "<u@>",
    "<u@d.>",
    "<u@.d>",
    "<u@d..e>",
    "<.u@d>",
    "<u.@d>",
    "<u..v@d>",
    "<u@ d>",
    "<u @d>",
    "<<u@d>@h>",
    "<u@d@h>",
    "<u@[192.0.2.1]@h>",
    "<u@[300.0.2.1]>",
    "<u@[IPv6:zz::]>",
    "<u@[IPv6:::1%eth0]>",
    "<u@h:25>",
    "<u@-d>",
    "<u@d\0>",
    "<u\0@d>",
    '<"u@d>',
    '<"u"x@d>',
    '<"a\r\nb"@d>',
    "<postmaster>",
    "<u@b\u00fccher.example>",
    "<\u00fc@d>",
    f"<{'l' * 65}@d.example>",
    f"<u@{'.'.join(['d' * 63] * 4)}.d>",
    f"<u@{'d' * 64}.example>",
]


class PathTests(SynchronousTestCase):
    def test_good_paths_give_their_address(self) -> None:
        """Source routes go, needless quotes go, all else stays as written."""
        for path, address in GOOD.items():
            with self.subTest(path):
                self.assertEqual(parse_path(path), (address, ""))

    def test_bad_paths_are_refused_with_an_enhanced_code(self) -> None:
        """What is no path is a 5xx with its code, never a guess."""
        for path in BAD:
            with self.subTest(path):
                error = self.assertRaises(WireError, parse_path, path)
                assert error.reply is not None
                self.assertRegex(error.reply.decode(), r"^5\d\d 5\.\d+\.\d+ ")

    def test_the_null_path_is_only_for_mail(self) -> None:
        """`<>` is an address only where it is asked for."""
        self.assertEqual(parse_path("<> SIZE=1", null=True), ("", " SIZE=1"))
        self.assertRaises(WireError, parse_path, "<>", postmaster=True)

    def test_postmaster_needs_no_domain(self) -> None:
        """RFC 5321 4.1.1.3: in any case of its letters."""
        self.assertEqual(parse_path("<PostMaster>", postmaster=True), (POSTMASTER, ""))
        self.assertRaises(WireError, parse_path, "<po\u017ftmaster>", postmaster=True, utf8=True)

    def test_what_follows_a_path_is_given_back(self) -> None:
        """Parameters are the caller's."""
        self.assertEqual(parse_path("<u@d> BODY=8BITMIME"), ("u@d", " BODY=8BITMIME"))

    @given(st.text(max_size=40))
    def test_no_text_breaks_the_parser(self, text: str) -> None:
        """Anything gives an address without control characters, or WireError with a reply."""
        try:
            address, _ = parse_path(f"<{text}>", null=True, postmaster=True)
        except WireError as error:
            self.assertIsNotNone(error.reply)
        else:
            self.assertTrue(address.isascii() and (address.isprintable() or not address))

    @given(st.from_regex(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e]){0,30}"', fullmatch=True))
    def test_quoting_is_stable(self, local: str) -> None:
        """An address that was parsed once is parsed to itself, and its local part means the same."""
        address, _ = parse_path(f"<{local}@d.example>")
        self.assertEqual(parse_path(f"<{address}>"), (address, ""))

    def test_addresses_beyond_ascii(self) -> None:
        """RFC 6531 3.3: in both parts; a domain comes as A-labels, whichever of its forms was written (RFC 5891)."""
        for path, address in (
            ("<\u00fc@d.example>", "\u00fc@d.example"),
            ("<u@b\u00fccher.example>", "u@xn--bcher-kva.example"),
            ("<u@B\u00dcCHER\u3002example>", "u@xn--bcher-kva.example"),
            ("<\u7528\u6237@\u4f8b\u5b50.example>", "\u7528\u6237@xn--fsqu00a.example"),
            ('<"\u00fc"@d.example>', "\u00fc@d.example"),
            ('<"\u00fc u"@d.example>', '"\u00fc u"@d.example'),
            ("<@r\u00fc.example:\u00fc@d.example>", "\u00fc@d.example"),
        ):
            with self.subTest(path):
                self.assertEqual(parse_path(path, utf8=True), (address, ""))
                error = self.assertRaises(WireError, parse_path, path)
                self.assertEqual((error.reply or b"")[:9], b"553 5.6.7")

    def test_what_is_no_address_beyond_ascii(self) -> None:
        """What was no UTF-8, controls, blanks, `@` `%` `!` in disguise, labels that are none, and too many octets."""
        for path in (
            "<\ufffd@d.example>", "<\u0085@d.example>", "<\u2028@d.example>", "<u\uff20d@e.example>",
            "<u\uff05d@e.example>", "<u\uff01d@e.example>", "<u@\ufffd.example>", "<u@-\u00fc.example>",
            "<\u00fc@d..example>", "<\u00fc@>", f"<{chr(252) * 33}@d.example>", f"<u@{chr(252) * 63}.example>",
        ):  # fmt: skip
            with self.subTest(path):
                error = self.assertRaises(WireError, parse_path, path, utf8=True)
                self.assertEqual((error.reply or b"")[:7], b"501 5.1")

    @given(st.text(max_size=40))
    def test_what_is_an_address_stays_one(self, text: str) -> None:
        """Beyond ASCII too: parsed once, it is parsed to itself."""
        try:
            address, _ = parse_path(f"<{text}@b\u00fccher.example>", utf8=True)
        except WireError as error:
            self.assertIsNotNone(error.reply)
        else:
            self.assertEqual(parse_path(f"<{address}>", utf8=True), (address, ""))

    def test_split_takes_the_quotes_off(self) -> None:
        """The local part as it is meant, beside the domain."""
        self.assertEqual(split('"u@x"@d'), ("u@x", "d"))
        self.assertEqual(split('"a\\"b"@d'), ('a"b', "d"))
        self.assertEqual(split("postmaster"), ("postmaster", ""))
