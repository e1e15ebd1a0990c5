"""Code of the operator's own: found by its name, told what is wrong with it, imported anew where it has changed."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.code import Code
from dcrouter.errors import ConfigError
from dcrouter.extensions import NOTHING, Extensions, Loaded

GOOD = """
from twisted.internet.protocol import Factory, Protocol

class Quiet(Protocol):
    pass

class Quiets(Factory):
    protocol = Quiet

class Picky(Factory):
    def __init__(self, needed):
        pass

quiets = Quiets()
number = 1

class Place:
    def select(self, facts):
        return number

place = Place()
"""


class ExtensionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.patch(sys, "path", list(sys.path))
        self.patch(sys, "dont_write_bytecode", True)
        known = set(sys.modules)
        self.addCleanup(lambda: [sys.modules.pop(name) for name in set(sys.modules) - known])
        self.extensions = Extensions()
        self.extensions.use_folder(self.folder)
        self.write("mine_here", GOOD)

    def write(self, module: str, text: str) -> None:
        path = self.folder / f"{module.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def load(self, *names: str, before: Loaded = NOTHING) -> Loaded:
        """`factory NAME` or `select NAME`."""
        pairs = [name.split() for name in names]
        codes = [Code(kind=kind, name=name, where="here") for kind, name in pairs]  # type: ignore[arg-type]
        return self.extensions.load(codes, before)

    def problems(self, *names: str) -> tuple[str, ...]:
        problems: tuple[str, ...] = self.assertRaises(ConfigError, self.load, *names).problems
        return problems

    def test_what_is_good_is_found(self) -> None:
        """A factory, what gives one, and a callable wherever it is; a name that is said twice is one object."""
        loaded = self.load(
            "factory mine_here:Quiets",
            "factory mine_here:Quiets",
            "factory mine_here:quiets",
            "select mine_here:place.select",
        )
        self.assertEqual(list(loaded.factories), ["mine_here:Quiets", "mine_here:quiets"])
        self.assertIs(loaded.factories["mine_here:quiets"], sys.modules["mine_here"].quiets)
        self.assertEqual(loaded.selects["mine_here:place.select"](None), 1)

    def test_all_that_is_wrong_is_told_at_once(self) -> None:
        """With the place in foreign code, where it has one."""
        self.write("mine_broken", "import sys\n\nraise ValueError('no')\n")
        self.write("mine_syntax", "def :\n")
        self.write("mine_exit", "import sys\nsys.exit(3)\n")
        found = self.problems(
            "factory mine_nowhere:X",
            "factory mine_broken:X",
            "factory mine_syntax:X",
            "factory mine_exit:X",
            "factory mine_here:Quiet",
            "factory mine_here:Quietz",
            "factory mine_here:Picky",
            "factory mine_here:number",
            "select mine_here:number",
            "select mine_here:place.selects",
        )
        for problem, told in zip(
            found,
            (
                "mine_nowhere:X: cannot import mine_nowhere: ModuleNotFoundError: No module named 'mine_nowhere'",
                "mine_broken:X: cannot import mine_broken: mine_broken.py:3: ValueError: no",
                "mine_syntax:X: cannot import mine_syntax: mine_syntax.py:1: SyntaxError: invalid syntax",
                "mine_exit:X: cannot import mine_exit: mine_exit.py:2: SystemExit: 3",
                "gives a Quiet, which is no protocol factory (IProtocolFactory): name a factory of it",
                "has no Quietz (did you mean 'Quiet'?)",
                "mine_here:Picky: cannot be called without arguments: TypeError: Picky.__init__() missing 1",
                "mine_here:number: is neither a protocol factory nor gives one when it is called",
                "mine_here:number: is a int and cannot be called",
                "has no selects (did you mean 'select'?)",
            ),
            strict=True,
        ):
            self.assertTrue(problem.startswith("here: "), problem)
            self.assertIn(told, problem)

    def test_what_has_not_changed_stays_the_same(self) -> None:
        """With all that it remembers."""
        first = self.load("factory mine_here:Quiets")
        second = self.load("factory mine_here:Quiets", "select mine_here:place.select", before=first)
        self.assertIs(second.factories["mine_here:Quiets"], first.factories["mine_here:Quiets"])

    def test_a_module_that_has_changed_is_imported_anew(self) -> None:
        """The old one goes on for whoever has it."""
        first = self.load("select mine_here:place.select")
        self.write("mine_here", GOOD.replace("number = 1", "number = 22"))
        second = self.load("select mine_here:place.select", before=first)
        ask = [loaded.selects["mine_here:place.select"] for loaded in (first, second)]
        self.assertEqual([select(None) for select in ask], [1, 22])

    def test_a_change_that_is_wrong_changes_nothing(self) -> None:
        """Modules of packages too; the next attempt looks at the file again."""
        self.write("mine_package.__init__", "")
        self.write("mine_package.inner", GOOD)
        name = "select mine_package.inner:place.select"
        first = self.load(name)
        before = sys.modules["mine_package.inner"]
        self.write("mine_package.inner", "1 / 0")
        self.assertIn("inner.py:1: ZeroDivisionError", self.problems(name)[0])
        self.assertIs(sys.modules["mine_package.inner"], before)
        self.assertIs(sys.modules["mine_package"].inner, before)
        self.write("mine_package.inner", GOOD.replace("number = 1", "number = 333"))
        self.assertEqual(self.load(name, before=first).selects["mine_package.inner:place.select"](None), 333)

    def test_nothing_is_written_beside_it(self) -> None:
        self.load("factory mine_here:Quiets")
        self.assertEqual([path.name for path in self.folder.iterdir()], ["mine_here.py"])
