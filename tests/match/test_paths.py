"""Paths: what patterns match, and in what form paths are compared."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.paths import meet, pattern, readings, specificity

SEGMENT = st.sampled_from(["a", "b", "*"])
PATTERN = st.tuples(st.lists(SEGMENT, max_size=3), st.sampled_from(["", "/**", "/"])).map(
    lambda given: "".join(f"/{one}" for one in given[0]) + given[1] or "/"
)
PATH = st.lists(st.sampled_from(["a", "b"]), max_size=4).map(lambda given: "/" + "/".join(given)) | st.just("/a/")


def model(text: str, path: str) -> bool:
    """By a regular expression, as the words say it."""
    made = re.sub(r"/\\\*\\\*$", "(/.*)?", re.escape(text)).replace(r"\*", "[^/]+")
    return re.fullmatch(made, path) is not None


class PatternTests(SynchronousTestCase):
    @given(PATTERN, PATH)
    def test_a_pattern_is_anchored_and_goes_segment_by_segment(self, text: str, path: str) -> None:
        """`*` is one segment that is not empty, `**` all the rest, be it nothing."""
        (segments,) = readings(path)
        self.assertEqual(pattern(text).matches(segments), model(text, path))

    @given(PATTERN, PATTERN, PATH)
    def test_patterns_meet_where_a_path_matches_both(self, one: str, other: str, path: str) -> None:
        """No path is missed."""
        if model(one, path) and model(other, path):
            self.assertTrue(meet(pattern(one), pattern(other)))

    def test_patterns_that_never_meet(self) -> None:
        """Other segments, other lengths."""
        for one, other in (("/a", "/b"), ("/a", "/a/"), ("/a/*", "/a/"), ("/a/*", "/a/b/c"), ("/a/b/**", "/a/c/**")):
            self.assertFalse(meet(pattern(one), pattern(other)), (one, other))
            self.assertFalse(meet(pattern(other), pattern(one)), (one, other))

    def test_the_longer_comes_first(self) -> None:
        """Without its wildcards; of equal length none before `*` before `**`."""
        ordered = ["/users/me", "/users/*", "/users/**", "/v1/", "/*/me", "/v1", "/a/**", "/", "/*", "/**", None]
        self.assertEqual(sorted(ordered, key=specificity), ordered)


class ReadingTests(SynchronousTestCase):
    @given(st.text(st.sampled_from("ab/.%2eF5c;\\*"), max_size=12), st.sampled_from(["/", ""]))
    def test_any_path_has_one_or_two_readings(self, text: str, first: str) -> None:
        """Without empty segments or dots inside, however it is written."""
        for segments in readings(first + text):
            if segments is not None:
                self.assertNotIn("", segments[:-1])
                self.assertNotIn(".", segments)

    def test_what_all_servers_read_alike_has_one(self) -> None:
        """In the form that patterns are compared in."""
        for path, expected in (
            ("/", ("",)),
            ("/a/b", ("a", "b")),
            ("/a/", ("a", "")),
            ("//a//b//", ("a", "b", "")),
            ("/./a/./b/.", ("a", "b", "")),
            ("/%61%2D%7e", ("a-~",)),
            ("/.well-known/x", (".well-known", "x")),
            ("/...", ("...",)),
            ("/a..b/..c", ("a..b", "..c")),
            ("/100%", ("100%",)),
            ("/%zz", ("%zz",)),
            ("/%C3%A9", ("\xc3\xa9",)),
            ("*", None),
        ):
            self.assertEqual(readings(path), (expected,), path)

    def test_what_servers_disagree_about_has_two(self) -> None:
        """By the RFC, and as the laxest of them read it."""
        for path, strict, lax in (
            ("/a/../b", ("a", "..", "b"), ("b",)),
            ("/a/%2E./b", ("a", "..", "b"), ("b",)),
            ("/a%2Fb", ("a/b",), ("a", "b")),
            ("/a\\b", ("a\\b",), ("a", "b")),
            ("/a%5cb", ("a\\b",), ("a", "b")),
            ("/a;v=1/b", ("a;v=1", "b"), ("a", "b")),
            ("/a%3bv/b", ("a;v", "b"), ("a", "b")),
            ("/..;/a", ("..;", "a"), ("a",)),
            ("/a/..", ("a", ".."), ("",)),
            ("/../../a", ("..", "..", "a"), ("a",)),
            ("/a%2f..%2fb", ("a/../b",), ("b",)),
        ):
            self.assertEqual(readings(path), (strict, lax), path)
