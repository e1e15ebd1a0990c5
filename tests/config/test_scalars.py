"""From text to type: the core schema of YAML 1.2, and variables."""

from __future__ import annotations

import math
import re

import yaml
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.scalars import expand, resolve

# YAML 1.2.2 section 10.3.2, word for word.
_CORE = (
    (r"null|Null|NULL|~|", type(None)),
    (r"true|True|TRUE|false|False|FALSE", bool),
    (r"[-+]?[0-9]+", int),
    (r"0o[0-7]+", int),
    (r"0x[0-9a-fA-F]+", int),
    (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
    (r"[-+]?(\.inf|\.Inf|\.INF)", float),
    (r"\.nan|\.NaN|\.NAN", float),
)


def core_type(text: str) -> type:
    """The type that the table of the standard gives."""
    return next((type_ for pattern, type_ in _CORE if re.fullmatch(pattern, text, re.ASCII)), str)


class ResolveTests(SynchronousTestCase):
    def test_what_yaml_1_1_got_wrong_is_text(self) -> None:
        """no is Norway, 22:22 a time, 2026-12-01 a day."""
        for text in ("no", "No", "off", "yes", "on", "y", "22:22", "2026-12-01", "1_000", "0b1", "1:2:3", "=", "<<"):
            self.assertEqual(resolve(text), text)

    def test_values(self) -> None:
        """Numbers are what they say."""
        self.assertEqual(resolve("0o17"), 15)
        self.assertEqual(resolve("0x1F"), 31)
        self.assertEqual(resolve("010"), 10)
        self.assertEqual(resolve("-.5e1"), -5.0)
        self.assertEqual(resolve("-.inf"), -math.inf)
        self.assertTrue(math.isnan(float(str(resolve(".nan")))))

    @given(st.one_of(st.text(max_size=12), st.text("0123456789+-.eExoXaAfFnNiI~_:", max_size=12)))
    def test_the_type_is_that_of_the_standard(self, text: str) -> None:
        """For every text, whatever is in it."""
        self.assertIs(type(resolve(text)), core_type(text))

    @given(st.integers() | st.booleans() | st.floats(allow_nan=False) | st.none())
    def test_what_a_yaml_writer_writes_comes_back(self, value: object) -> None:
        """Where it writes core scalars."""
        text = yaml.safe_dump(value).removesuffix("\n...\n").removesuffix("\n")
        self.assertEqual(resolve(text), value)

    def test_a_number_without_end_is_text(self) -> None:
        """int() is not asked to read a megabyte."""
        self.assertIsInstance(resolve("9" * 10_000), str)


class ExpandTests(SynchronousTestCase):
    def test_variables(self) -> None:
        """Several, in the middle of text, with and without defaults."""
        environment = {"A": "1", "EMPTY": ""}
        for text, expanded in (
            ("${A}", "1"),
            ("x${A}y${A}", "x1y1"),
            ("${B:-b}", "b"),
            ("${EMPTY:-b}", "b"),
            ("${EMPTY}", ""),
            ("${A:-b}", "1"),
            ("${B:-}", ""),
            ("$${A}", "${A}"),
            ("$A $ {A}", "$A $ {A}"),
        ):
            self.assertEqual(expand(text, environment), expanded)

    def test_values_are_not_expanded_again(self) -> None:
        """A variable cannot name another."""
        self.assertEqual(expand("${A}", {"A": "${B}"}), "${B}")

    def test_what_is_no_reference_is_refused(self) -> None:
        """Rather than passed on as text."""
        for text in ("${", "${}", "${1A}", "${A", "${A-b}", "${A:-${B}}", "${a b}"):
            self.assertRaises(ValueError, expand, text, {"A": "1", "B": "2"})

    @given(st.text())
    def test_text_without_references_stays(self, text: str) -> None:
        """Whatever it is."""
        if "${" not in text:
            self.assertEqual(expand(text, {}), text)
