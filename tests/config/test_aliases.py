"""`aliases_file`: whom addresses stand for, and what is wrong with such a file."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config import aliases
from dcrouter.config.aliases import Aliases, load_aliases
from dcrouter.config.load import load_with_warnings
from dcrouter.errors import ConfigError
from tests.config.mailrules import DELIVER, MTA, email
from tests.config.written import FileTestCase

FILE = Path("aliases")


class AliasesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(FILE.unlink, missing_ok=True)

    def load(self, text: str) -> Aliases:
        FILE.write_text(text, "utf-8")
        return load_aliases(FILE, "mail.a.test", {})

    def wrong(self, text: str) -> list[str]:
        return list(self.assertRaises(ConfigError, self.load, text).problems)

    def test_one_or_a_list(self) -> None:
        """Compared without case, IDNs in either spelling; a bare name is one of the host; through other aliases."""
        found = self.load(
            "Sales@A.test: alice@a.test\n"
            "team@a.test: [sales@a.test, Bob@a.test, ann@else.test]\n"
            "root: team@a.test\n"
            "x@münchen.example: root\n"
        )
        everybody = ("alice@a.test", "Bob@a.test", "ann@else.test")
        for address, expected in (
            ("SALES@a.TEST", everybody[:1]),
            ("team@a.test", everybody),
            ("root@mail.a.test", everybody),
            ("x@xn--mnchen-3ya.example", everybody),
            ("root@a.test", None),
            ("sales+x@a.test", None),
            ("postmaster", None),
        ):
            self.assertEqual(found.expand(address), expected, address)
        self.assertEqual(len(found), 4)
        self.assertIsNone(self.load("{}").expand("a@a.test"))

    def test_each_once(self) -> None:
        """Whatever ways lead there; an alias that names itself keeps its mailbox, for aliases of it too."""
        found = self.load("a@a.test: [a@a.test, b@a.test, A@a.test]\nc@a.test: [a@a.test, b@a.test]\n")
        self.assertEqual(found.expand("a@a.test"), ("A@a.test", "b@a.test"))
        self.assertEqual(found.expand("c@a.test"), ("A@a.test", "b@a.test"))

    def test_problems_have_their_place(self) -> None:
        """No programs, no files, no patterns, no empty lists; nothing said twice."""
        for text, problem in (
            ("a@b.test: |\n  x\nB@b.test: c\nb@b.test: c", "aliases:4:1: 'b@b.test': is also said in line 3"),
            (
                "a: '|/bin/sh'",
                "aliases:1:1: a: '|/bin/sh': an alias stands for addresses, not for a program, a file or",
            ),
            ("a: [b, /etc/x]", "aliases:1:8: a[1]: '/etc/x': an alias stands for addresses"),
            ("a: ':include:/x'", "an alias stands for addresses"),
            ("'*@b.test': a", "aliases:1:1: '*@b.test': '*@b.test' is a pattern, not a mail address"),
            ("a: 'b@c.test, d@c.test'", "several addresses are a list"),
            ("a: []", "aliases:1:1: a: stands for nobody"),
            ("", "aliases:1:1: the file is empty"),
            ("a:", "aliases:1:1: a: expected an address, or a list of them, not nothing"),
            ("a: {b: c}", "expected an address, or a list of them, not a mapping"),
            ("[a]", "aliases:1:1: expected a mapping, not a list"),
            ("a: ü@b.test", "a name beyond ASCII needs SMTPUTF8"),
            ("a: <b@c.test>", "'<b@c.test>' is not a mail address"),
        ):
            self.assertIn(problem, "\n".join(self.wrong(text)))

    def test_circles(self) -> None:
        """Of any length but one."""
        (problem,) = self.wrong("x: a\na: [y, b]\nb: c\nc: [d, a]\n")
        self.assertEqual(
            problem,
            "aliases:2:1: a: leads back to itself: a@mail.a.test -> b@mail.a.test -> c@mail.a.test -> a@mail.a.test",
        )

    def test_depth_and_breadth(self) -> None:
        """Ten aliases one after the other, a thousand addresses in all: counted, not walked."""

        def chain(length: int) -> str:
            return "".join(f"a{at}: a{at + 1}\n" for at in range(length))

        self.assertEqual(self.load(chain(10)).expand("a0@mail.a.test"), ("a10@mail.a.test",))
        for text in (chain(11), "".join(reversed(chain(11).splitlines(keepends=True))), chain(5000)):
            (problem,) = self.wrong(text)
            self.assertIn("leads on through more than 10 aliases", problem)
        names = ", ".join(f"u{at}" for at in range(1000))
        found = self.load(f"a: [{names}]").expand("a@mail.a.test")
        self.assertEqual(len(found or ()), 1000)
        self.assertEqual(self.wrong(f"a: [{names}, v]"), ["aliases:1:1: a: stands for more than 1000 addresses"])
        doubling = "".join(f"a{at}: [a{at + 1}, b{at}]\nb{at}: a{at + 1}\n" for at in range(5))
        self.assertEqual(len(self.load(doubling).expand("a0@mail.a.test") or ()), 1)
        self.assertEqual(self.wrong(f"a: [b, c, v]\nb: [{names}]\nc: b")[0][:13], "aliases:1:1: ")

    def test_a_wrong_file_is_told_in_a_few_lines(self) -> None:
        """However long it is; and one that is far too long in one."""
        problems = self.wrong("".join(f"a{at}: []\n" for at in range(100)))
        self.assertEqual((len(problems), problems[-1]), (21, "aliases has 80 more problems"))
        self.patch(aliases, "MOST_BYTES", 10)
        (problem,) = self.wrong("a: b@c.test\n")
        self.assertIn("larger than", problem)


class CheckTests(FileTestCase):
    def write(self, text: str) -> None:
        FILE.write_text(text)
        self.addCleanup(FILE.unlink, missing_ok=True)

    def text(self, *rules: str, postmaster: str = "p@ours.test") -> str:
        return email(*rules, postmaster=postmaster) + "  aliases_file: aliases\n"

    def test_a_file_that_cannot_be_used(self) -> None:
        """Its problems with their places there; one that is not there, here."""
        self.write("a@ours.test: []\n")
        Path("routes.yaml").write_text(self.text())
        (problem,) = self.assertRaises(ConfigError, load_with_warnings, Path("routes.yaml"), {}).problems
        self.assertTrue(problem.startswith(f"{FILE.absolute()}:1:1: 'a@ours.test': stands for nobody"), problem)
        FILE.unlink()
        (problem,) = self.problems(self.text())
        self.assertIn("email.aliases_file", problem)

    def test_whom_no_rule_takes(self) -> None:
        """An alias that nobody can write to, and a target that gets nothing; a few of them in one warning each."""
        self.write("a@ours.test: [b@ours.test, c@else.test]\nx@nowhere.test: b@ours.test\nroot: b@ours.test\n")
        unreached, lost = self.load(self.text())[1]
        self.assertIn(
            "email.aliases_file: no rule takes mail to root@mail.test, x@nowhere.test: nobody reaches", unreached
        )
        self.assertIn("email.aliases_file: no rule takes mail to c@else.test, for whom aliases stand", lost)
        self.assertEqual(self.load(self.text(f"match: {{clients: may_relay}}, {MTA}"))[1], [])

    def test_postmaster_may_be_an_alias(self) -> None:
        """Who exists is asked of its targets, not of it."""
        self.write("p@ours.test: q@ours.test\n")
        Path("known").write_text("q@ours.test\n")
        self.addCleanup(Path("known").unlink)
        rule = f"match: {{recipients: ['*@ours.test']}}, recipients_file: known, {DELIVER}"
        text = self.text(rule)
        self.assertEqual([one for one in self.load(text)[1] if "never asked" not in one], [])
        Path("known").write_text("z@ours.test\n")
        (problem,) = self.problems(text)
        self.assertIn("rule 'r0' refuses mail to 'q@ours.test': its recipients_file has no such one", problem)
