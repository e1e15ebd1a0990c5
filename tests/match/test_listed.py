"""Addresses by the million."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.match.listed import Listed

ADDRESSES = st.tuples(st.sampled_from("xyz"), st.sampled_from(("a.test", "b.a.test", "c.b.a.test"))).map("@".join)


class ListedTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """Compared without case, domains as A-labels; nobody else is meant."""
        listed = Listed(["joe@example.com", "ann@xn--mnchen-3ya.example"])
        for address in ("joe@example.com", "JOE@Example.COM", "ann@M\u00fcnchen.example"):
            self.assertIn(address, listed)
        for address in ("jo@example.com", "joe@example.org", "joe@x.example.com", "joe", "@example.com", "", "j" * 400):
            self.assertNotIn(address, listed)
        self.assertEqual(len(listed), 2)

    def test_everybody_of_a_domain(self) -> None:
        """`*@domain`, and domains under one."""
        listed = Listed(["joe@example.com", "*@example.org", "*@*.example.net"])
        for address in ("any@example.org", "joe@example.com", "any@x.example.net"):
            self.assertIn(address, listed)
        for address in ("any@example.com", "any@x.example.org", "any@example.net", "any@x.y.example.net"):
            self.assertNotIn(address, listed)

    def test_who_adds_a_detail_is_the_same_user(self) -> None:
        """`joe+lists` exists where `joe` does; a listed `ann+only` makes no `ann`, and a bare `+x` is a name."""
        listed = Listed(["joe@example.com", "ann+only@example.com"])
        for address in ("joe+lists@example.com", "joe+@example.com", "joe+a+b@example.com", "ann+only@example.com"):
            self.assertIn(address, listed)
        for address in ("ann@example.com", "ann+other@example.com", "+joe@example.com", "joe-x@example.com"):
            self.assertNotIn(address, listed)

    @given(st.lists(ADDRESSES), ADDRESSES)
    def test_it_is_a_set(self, kept: list[str], asked: str) -> None:
        """However often an address is in it."""
        listed = Listed(kept)
        self.assertEqual((asked in listed, len(listed)), (asked in kept, len(set(kept))))
