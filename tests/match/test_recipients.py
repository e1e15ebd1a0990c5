"""Whether a recipient is meant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.patterns import covering, matches, parse
from dcrouter.config.regex import refuse_explosive
from dcrouter.match.recipients import RecipientPatterns

DOMAIN = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(".".join)
LOCAL = st.sampled_from(("x", "y", "x+a", "x+a+b", "x+", "+x", "x++"))
PATTERN = st.tuples(
    st.sampled_from(("x", "y", "*", "x+*", "x+a", "x+a+*", "x++*", "+x+*")),
    st.just("*") | st.tuples(st.sampled_from(("", "*.", "**.")), DOMAIN).map("".join),
).map("@".join)


class RecipientPatternsTests(SynchronousTestCase):
    def assert_matches(self, pattern: str, *addresses: str) -> None:
        for address in addresses:
            self.assertTrue(RecipientPatterns([pattern]).matches(address), (pattern, address))

    def assert_differs(self, pattern: str, *addresses: str) -> None:
        for address in addresses:
            self.assertFalse(RecipientPatterns([pattern]).matches(address), (pattern, address))

    def test_addresses(self) -> None:
        """Compared without case, IDNs in either spelling."""
        self.assert_matches("Alice@Example.com", "alice@example.com", "ALICE@EXAMPLE.COM.")
        self.assert_matches("*@münchen.example", "a@xn--mnchen-3ya.example", "a@MÜNCHEN.example")
        self.assert_differs("alice@example.com", "alice@example.org", "alicex@example.com", "alice", "@example.com", "")

    def test_domains(self) -> None:
        """Exact, one label, one or more; none of them the name itself by a wildcard."""
        self.assert_matches("*@example.com", "a@example.com", "a@b@example.com")
        self.assert_differs("*@example.com", "a@x.example.com", "a@example.com.evil.test", "a@xexample.com")
        self.assert_matches("*@*.example.com", "a@x.example.com")
        self.assert_differs("*@*.example.com", "a@example.com", "a@x.y.example.com", "a@.example.com.x")
        self.assert_matches("*@**.example.com", "a@x.example.com", "a@x.y.example.com")
        self.assert_differs("*@**.example.com", "a@example.com")

    def test_anything(self) -> None:
        """A bare wildcard as domain, or altogether."""
        self.assert_matches("user@*", "User@example.com", "user@[192.0.2.1]")
        self.assert_differs("user@*", "other@example.com", "user")
        for pattern in ("*", "*@*"):
            self.assert_matches(pattern, "a@b", "postmaster", "a@[192.0.2.1]")

    def test_details(self) -> None:
        """Behind the user and a `+`; the user without one is another address."""
        self.assert_matches("User+*@example.com", "user+lists@example.com", "USER+a+b@example.com", "user+@example.com")
        self.assert_differs("user+*@example.com", "user@example.com", "user-a@example.com", "user+a@example.org")
        self.assert_matches("user+*@*.example.com", "user+a@x.example.com")
        self.assert_matches("user+*@*", "user+a@example.com")
        self.assert_differs("a+b+*@example.com", "a+b@example.com", "a+c+b@example.com")

    def test_address_literals_are_no_names(self) -> None:
        """A wildcard does not reach into brackets."""
        self.assert_matches("a@[192.0.2.1]", "a@[192.0.2.1]")
        self.assert_differs("*@**.test", "a@[x.test]", "a@[x.test")

    def test_expressions_match_the_whole_address(self) -> None:
        """Without case, against the compared form."""
        self.assert_matches("re:sales-[0-9]+@example\\.com", "Sales-12@EXAMPLE.com")
        self.assert_differs(
            "re:sales@example\\.com", "presales@example.com", "sales@example.com.evil.test", "sales@example.comm"
        )
        self.assert_differs("re:a@example\\.com", "a@example.com\n")

    def test_a_longer_address_than_there_can_be_matches_nothing(self) -> None:
        """So that no expression sees it."""
        self.assert_differs("*", "a" * 310 + "@example.com")
        self.assert_differs("re:a*@example\\.com", "a" * 310 + "@example.com")

    def test_the_worst_expression_that_is_let_through_ends_soon(self) -> None:
        """On the longest address, where nothing matches."""
        for text in (
            "[ab]+[ab]+a?a?a?a?a?a?!",
            "(a|b)(a|b)(a|b)(a|b)(a|b)(a|b).*.*!",
            "a?" * 22 + "!",
            ".{0,16}" * 5 + "!",
        ):
            refuse_explosive(text)
            patterns = RecipientPatterns([f"re:{text}"])
            self.assertFalse(patterns.matches("a" * 308 + "@example.com"))

    @given(st.lists(PATTERN, max_size=4), LOCAL, DOMAIN)
    def test_look_ups_and_definition_agree(self, patterns: list[str], local: str, domain: str) -> None:
        """Many patterns at once match what one of them matches."""
        address = f"{local}@{domain}"
        expected = any(matches(parse(pattern), address) for pattern in patterns)
        self.assertEqual(RecipientPatterns(patterns).matches(address), expected)

    @given(PATTERN, PATTERN, LOCAL, DOMAIN)
    def test_a_covering_pattern_matches_all_of_the_other(self, wide: str, narrow: str, local: str, domain: str) -> None:
        """Which is what makes a rule behind it one that is never asked."""
        address = f"{local}@{domain}"
        if parse(wide) in covering(parse(narrow)) and matches(parse(narrow), address):
            self.assertTrue(matches(parse(wide), address))
