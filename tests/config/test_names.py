"""Names of hosts as the operator writes them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config import names


class DomainPatternTests(SynchronousTestCase):
    def test_the_compared_form(self) -> None:
        """Lower case, no final dot, A-labels."""
        for written, compared in (
            ("WWW.Example.COM.", "www.example.com"),
            ("*.Example.com", "*.example.com"),
            ("**.example.com.", "**.example.com"),
            ("*.münchen.example", "*.xn--mnchen-3ya.example"),
            ("straße.example", "xn--strae-oqa.example"),
            ("_sip.example.com", "_sip.example.com"),
            ("127.0.0.1", "127.0.0.1"),
            ("localhost", "localhost"),
        ):
            self.assertEqual(names.domain_pattern(written), compared)

    def test_what_is_no_pattern(self) -> None:
        """A wildcard stands at the front and for whole labels; everything else is a name."""
        bad = (
            "",
            ".",
            "*",
            "**",
            "*.",
            "a.*.b",
            "*a.b",
            "***.a",
            "a..b",
            "-",
            "http://a.b",
            "a.b:80",
            "a b",
            "1.2.3.400",
        )
        for text in bad:
            if text != "-":
                self.assertRaises(ValueError, names.domain_pattern, text)

    def test_regular_expressions_stay_as_they_are(self) -> None:
        """Those that compile, that cannot explode, and that could match the compared form of a name."""
        self.assertEqual(names.domain_pattern(r"re:^Shop[0-9]+\.x$"), r"re:^Shop[0-9]+\.x$")
        for text, problem in (
            ("re:(", "'re:(' is not a regular expression: missing ), unterminated subpattern"),
            ("re:(a+)+", "'re:(a+)+' repeats what already repeats or chooses"),
            ("re:.*.*.*x", "repeats and chooses too often"),
            (r"re:(a)\1", "refers back to a group"),
            ("re:bücher", "matches nothing: names are compared as A-labels"),
        ):
            error = self.assertRaises(ValueError, names.domain_pattern, text)
            self.assertIn(problem, str(error))

    @given(st.text())
    def test_any_text_is_a_pattern_or_a_value_error(self, text: str) -> None:
        """And a pattern is its own compared form."""
        try:
            pattern = names.domain_pattern(text)
        except ValueError:
            return
        self.assertEqual(names.domain_pattern(pattern), pattern)

    def test_wildcards_of_a_name(self) -> None:
        """The longest first, one label before many."""
        self.assertEqual(list(names.wildcards("a.b.c")), ["*.b.c", "**.b.c", "**.c"])
        self.assertEqual(list(names.wildcards("localhost")), [])
        self.assertEqual(list(names.wildcards("[127.0.0.1]")), [])


class HostTests(SynchronousTestCase):
    def test_targets_are_names_or_addresses(self) -> None:
        """In one spelling each."""
        self.assertEqual(names.target_host("App.Internal."), "app.internal")
        self.assertEqual(names.target_host("2001:DB8::0:1"), "2001:db8::1")

    def test_slips_are_told(self) -> None:
        """A port and brackets do not belong there."""
        for text, hint in (
            ("a.b:80", "the port has its own key"),
            ("[::1]", "without brackets"),
            ("//a:1", "scheme"),
        ):
            self.assertIn(hint, str(self.assertRaises(ValueError, names.target_host, text)))

    def test_a_hostname_is_no_address(self) -> None:
        """email.hostname is a name."""
        self.assertRaises(ValueError, names.hostname, "192.0.2.1")

    def test_names_of_routes(self) -> None:
        """Short, and in need of no quoting anywhere."""
        self.assertEqual(names.name("web-1.b_2"), "web-1.b_2")
        for text in ("", "a b", "a/b", "-a", ".a", "ä", "x" * 65, "a\n"):
            self.assertRaises(ValueError, names.name, text)
