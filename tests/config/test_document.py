"""YAML without its traps, within bounds."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config import document
from dcrouter.config.document import compose, read_text
from dcrouter.config.findings import Findings
from dcrouter.config.nodes import Mapping, Node, Scalar, Sequence
from dcrouter.errors import ConfigError
from tests.config.written import FileTestCase


def plain(node: Node | None) -> object:
    """The values of a node."""
    if isinstance(node, Mapping):
        return {word: plain(value) for word, (_, value) in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return node.value if isinstance(node, Scalar) else None


# libyaml breaks lines where YAML 1.1 did (NEL and the Unicode separators), and its writer quotes for that. It does not
# quote what only YAML 1.2 reads as a number: 0E0, -.5, 0o17.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp"], exclude_characters="\ufeff")).filter(
    lambda text: re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?|0o[0-7]+", text) is None
)


class ComposeTests(SynchronousTestCase):
    def compose(self, text: str, **environment: str) -> tuple[object, list[str]]:
        findings = Findings()
        root = compose(text, environment, findings)
        return plain(root), [problem.show("f") for problem in findings.problems]

    def test_places_count_from_one(self) -> None:
        """Of keys and of elements."""
        root = compose("a:\n  - x\n  - {b: y}\n", {}, Findings())
        assert isinstance(root, Mapping)
        key, items = root.entries["a"]
        assert isinstance(items, Sequence)
        inner = items.items[1]
        assert isinstance(inner, Mapping)
        b = inner.entries["b"][0]
        self.assertEqual(
            [(key.line, key.column), (inner.line, inner.column), (b.line, b.column)], [(1, 1), (3, 5), (3, 6)]
        )

    def test_a_quoted_scalar_is_text_unless_a_variable_is_in_it(self) -> None:
        """Inside {} a reference can only be written in quotes, and is a number all the same."""
        value, problems = self.compose('a: "8080"\nb: {c: "${P}", d: "$${P}"}\ne: ${P}\nf: "x${P}"', P="80")
        self.assertEqual((value, problems), ({"a": "8080", "b": {"c": 80, "d": "${P}"}, "e": 80, "f": "x80"}, []))

    def test_keys_are_expanded_too(self) -> None:
        """A key is a scalar."""
        self.assertEqual(self.compose("${K}: 1", K="a"), ({"a": 1}, []))

    def test_problems_are_collected(self) -> None:
        """Tags, keys said twice, variables that are not set, aliases to nothing, keys that are no text: all of them."""
        _, problems = self.compose(
            "a: !!str x\nb: {c: 1, c: 2}\nb: 3\nd: ${NO}\ne: *none\n? [f]\n: g\nh: !<tag:x,2000:y> [1]\n"
        )
        self.assertEqual(
            problems,
            [
                "f:1:1: a: YAML tags are not allowed here: text that begins with ! needs quotes",
                "f:2:11: b.c: said twice (first on line 2)",
                "f:3:1: b: said twice (first on line 2)",
                "f:4:1: d: environment variable NO is not set (with a default: ${NO:-...})",
                "f:5:1: e: an alias without an anchor before it: text that begins with * needs quotes",
                "f:6:3: '?': a key must be text",
                "f:8:1: h: YAML tags are not allowed here: text that begins with ! needs quotes",
            ],
        )

    def test_an_alias_is_its_anchor(self) -> None:
        """Also as a key, and for collections."""
        value, problems = self.compose("a: &x {b: 1}\nc: *x\nd: &y e\n*y : f\n")
        self.assertEqual((value, problems), ({"a": {"b": 1}, "c": {"b": 1}, "d": "e", "e": "f"}, []))

    def test_a_bomb_does_not_go_off(self) -> None:
        """Nine to the power of many nodes are refused at once, where they begin."""
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
        _, problems = self.compose("\n".join(lines))
        self.assertEqual(problems, ["f:7:10: a6[0]: aliases stand for more than 1000000 values"])

    def test_an_alias_inside_itself_is_refused(self) -> None:
        """It would have no end."""
        self.assertEqual(self.compose("a: &x [*x]")[1], ["f:1:8: a[0]: the alias stands inside what it stands for"])

    def test_depth_is_bounded(self) -> None:
        """However deep the file goes."""
        _, problems = self.compose("[" * 1000)
        self.assertEqual(problems, ["f:1:33: " + "[0]" * 32 + ": nested deeper than 32 levels"])

    def test_broken_syntax_has_a_place(self) -> None:
        """On one line each."""
        for text, problem in (
            ("a: b: c", "f:1:5: not YAML: mapping values are not allowed in this context"),
            ("a: [1, 2\nb: 3", "f:2:2: not YAML: did not find expected ',' or ']'"),
            ("a:\n\t- x", "f:2:1: not YAML: found character that cannot start any token"),
            ("a: 'x", "f:1:6: not YAML: found unexpected end of stream"),
            ("a: 1\n b: 2", "f:2:3: not YAML: mapping values are not allowed in this context"),
        ):
            problems = self.compose(text)[1]
            self.assertEqual(len(problems), 1)
            self.assertTrue(problems[0].startswith(problem), problems)

    def test_what_newcomers_trip_over_has_a_remedy(self) -> None:
        """Tabs, and what has to be in quotes."""
        for text, remedy in (
            ("a:\n\t- x", "indent with blanks, not with tabs"),
            ("a: {b: https://{host}/}", "a bracket left open, or text with one or a comma in it that is not in quotes"),
            ("a: b: c", "a wrong indent, or text with ': ' in it that is not in quotes"),
            ("a: [*.example.com]", "text that begins with * or & must be in quotes"),
            ("a: *@example.com", "text that begins with * or & must be in quotes"),
            ("a: [0.0.0.0, ::]", "text that begins with ':', as '::1', must be in quotes inside [] and {}"),
            ("a: {host: ::1, port: 80}", "text that begins with ':', as '::1', must be in quotes inside [] and {}"),
            ("a: @x", "text that begins with this character must be in quotes"),
            ("a:\n  - b: 1\n   c: 2", "a wrong indent"),
            ("a:\n  b: 1\n c: 2", "a wrong indent, or text behind the closing quote or bracket of a value"),
            ("a: 'b' c\nd: 1", "a wrong indent, or text behind the closing quote or bracket of a value"),
            ("a: 1\nlog\nb: 1", "a key without ': ' behind it"),
            ("a: 'x", "a quote left open"),
        ):
            self.assertTrue(self.compose(text)[1][0].endswith(f": {remedy}"), self.compose(text))
        self.assertNotIn("tabs", self.compose("a: @x")[1][0])
        self.assertNotIn("'::1'", self.compose("a: [,]")[1][0])

    def test_problems_before_broken_syntax_are_told_too(self) -> None:
        """What was seen is told."""
        self.assertEqual(len(self.compose("a: !x 1\nb: [")[1]), 2)

    def test_only_one_document(self) -> None:
        """A second one would be ignored otherwise."""
        self.assertEqual(
            self.compose("a: 1\n---\nb: 2")[1], ["f:2:1: a second document begins here: there must be only one"]
        )

    def test_nothing_is_told(self) -> None:
        """An empty file, or one of comments, is an error."""
        for text in ("", "\n\n", "# only a comment\n"):
            self.assertEqual(self.compose(text), (None, ["f:1:1: the file is empty"]))

    def test_the_pure_python_parser_gives_the_same(self) -> None:
        """Where libyaml is missing, only the speed differs."""
        text = 'a: &x [1, "2", no]\nb: {c: *x, d: ~}\nc: !t 1\nc: 2\ne: |\n  x\n  y\n'
        fast = self.compose(text)
        self.patch(document, "_LOADER", yaml.SafeLoader)
        self.assertEqual(self.compose(text), fast)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | TEXT,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
            max_leaves=10,
        )
    )
    def test_what_a_yaml_writer_writes_comes_back(self, value: object) -> None:
        """Quoted where it must be, all of it."""
        text = yaml.safe_dump({"root": value}, allow_unicode=True)
        if "${" not in text:
            self.assertEqual(self.compose(text), ({"root": value}, []))

    @given(st.text())
    def test_any_text_is_a_document_or_a_problem(self, text: str) -> None:
        """Nothing is raised, and nothing without a problem is no document."""
        findings = Findings()
        root = compose(text, {}, findings)
        self.assertTrue(root is not None or findings.problems)


class ReadTextTests(FileTestCase):
    def fails(self, path: str = "routes.yaml") -> str:
        error = self.assertRaises(ConfigError, read_text, Path(path))
        self.assertEqual(len(error.problems), 1)
        problem: str = error.problems[0]
        return problem

    def test_what_is_no_file(self) -> None:
        """Missing, a directory, below something that is no directory."""
        Path("d").mkdir()
        Path("f").write_text("x")
        self.assertEqual(self.fails(), "routes.yaml: no such file")
        self.assertEqual(self.fails("d"), "d: is a directory, not a file")
        self.assertEqual(self.fails("f/x"), "f/x: cannot be read: not a directory")

    def test_bytes_that_are_no_text(self) -> None:
        """With line and column, in characters."""
        Path("routes.yaml").write_bytes(b"a: 1\n\xc3\xa4: \xe4\n")
        self.assertEqual(self.fails(), "routes.yaml:2:4: byte 0xe4 is not UTF-8")

    def test_control_characters(self) -> None:
        """NUL among them."""
        Path("routes.yaml").write_bytes(b"a: 1\nb: \0\n")
        self.assertEqual(self.fails(), "routes.yaml:2:4: character U+0000 is not allowed")

    def test_a_byte_order_mark_is_passed_over(self) -> None:
        """Some editors leave one."""
        Path("routes.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
        self.assertEqual(read_text(Path("routes.yaml")), "a: 1\n")

    def test_size_is_bounded(self) -> None:
        """An endless file is not read to its end."""
        self.assertEqual(self.fails("/dev/zero"), "/dev/zero: is larger than 64 MB")
