"""Which of many names is meant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.order import specificity
from dcrouter.match.names import NameIndex, normalise

NAME = st.lists(st.sampled_from("ab"), min_size=1, max_size=5).map(".".join)
PATTERN = st.none() | st.tuples(st.sampled_from(("", "*.", "**.")), NAME).map("".join)


def matches(pattern: str | None, name: str | None) -> bool:
    """The definition: exactly one label before it, one or more, the name itself, any name."""
    if pattern is None or name is None:
        return pattern is None
    if pattern.startswith("**."):
        return name.endswith(pattern[2:])
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and "." not in name[: -len(pattern[1:])]
    return name == pattern


class NameIndexTests(SynchronousTestCase):
    @given(st.lists(PATTERN, max_size=8), NAME | st.none())
    def test_it_finds_what_matches_the_most_specific_first(self, patterns: list[str | None], name: str | None) -> None:
        """In the order of config/order.py, and within a pattern in the order of adding."""
        index: NameIndex[tuple[str | None, int]] = NameIndex()
        for at, pattern in enumerate(patterns):
            index.add(pattern, (pattern, at))
        expected = sorted(
            ((pattern, at) for at, pattern in enumerate(patterns) if matches(pattern, name)),
            key=lambda item: (specificity(item[0]), item[1]),
        )
        self.assertEqual([item for items in index.candidates(name) for item in items], expected)

    def test_wildcards_never_match_their_own_name(self) -> None:
        """Neither `*.` nor `**.`."""
        index: NameIndex[str] = NameIndex()
        index.add("*.example.com", "one")
        index.add("**.example.com", "many")
        self.assertEqual(index.candidates("example.com"), [])
        self.assertEqual(index.candidates("a.example.com"), [["one"], ["many"]])
        self.assertEqual(index.candidates("a.b.example.com"), [["many"]])
        self.assertEqual(index.candidates(".example.com"), [])
        self.assertEqual(index.candidates("xexample.com"), [])

    def test_many_names_cost_no_more_look_ups(self) -> None:
        """The answer is a handful of lists, whatever else is there."""
        index: NameIndex[int] = NameIndex()
        for number in range(50_000):
            index.add(f"h{number}.example.com", number)
        self.assertEqual(index.candidates("h777.example.com"), [[777]])

    def test_names_of_peers_come_into_the_compared_form(self) -> None:
        """Lower case, and one final dot less."""
        self.assertEqual(normalise("WWW.Example.COM."), "www.example.com")
