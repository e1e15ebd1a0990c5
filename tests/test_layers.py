"""The order of the house, enforced: who may import whom, what the lowest floors do without, how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

import dcrouter

LAYERS = (
    ("errors",),
    ("durable",),
    ("wire",),
    ("config",),
    ("facts",),
    ("events",),
    ("interfaces",),
    ("extensions",),
    ("net",),
    ("tls",),
    ("match",),
    ("targets",),
    ("proxy", "mail", "handlers"),
    ("control",),
    ("admin",),
    ("service",),
    ("tap",),
)
"""From the ground up: a module imports from layers before its own, or from its own folder."""

WITHOUT = {
    "errors": ("twisted",),
    "wire": ("twisted", "socket", "ssl", "select", "OpenSSL"),
    "config": ("twisted",),
    "facts": ("twisted",),
}
"""Foreign packages that a folder does without: wire/ is sans-io, and the configuration is read by tools too."""

FOLDERS = {".ci", "bench", "dcrouter", "docs", "examples", "tests", "twisted"}
"""All that git keeps at the top of the repository (docs/architecture.md says what is in them)."""

LONGEST = 400
"""Lines; a longer file has two subjects."""


def problems(package: Path) -> list[str]:
    """What breaks the order in the package at this path, a line each, with file and line."""
    return [problem for path in sorted(package.rglob("*.py")) for problem in _problems(package, path)]


def _problems(package: Path, path: Path) -> Iterator[str]:
    source = path.read_text("utf-8")
    where = path.relative_to(package)
    lines = len(source.splitlines())
    if lines > LONGEST:
        yield f"{where}: {lines} lines"
    own = where.parts[0].removesuffix(".py")
    if own == "__init__":
        own = ""
    elif _rank(own) is None:
        yield f"{where}: {own} has no place among the layers"
        return
    for line, name in _imports(source, (package.name, *where.parts)):
        top, _, rest = name.partition(".")
        if top != package.name:
            if top in WITHOUT.get(own, ()):
                yield f"{where}:{line}: {own} does without {top}"
            continue
        other = rest.partition(".")[0]
        if other and other != own and not _above(own, other):
            yield f"{where}:{line}: {own or 'the package'} must not import {other}"


def _rank(folder: str) -> int | None:
    return next((rank for rank, layer in enumerate(LAYERS) if folder in layer), None)


def _above(own: str, other: str) -> bool:
    """Whether `own` stands above `other`; names that are no folders (`__version__`) stand nowhere and hurt nobody."""
    own_rank, other_rank = _rank(own), _rank(other)
    return other_rank is None or (own_rank is not None and own_rank > other_rank)


def _imports(source: str, parts: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, full dotted name) of everything that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parts[: -node.level]) if node.level else ""
            start = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                yield node.lineno, f"{start}.{alias.name}"


class LayerTests(SynchronousTestCase):
    def test_the_house_stands(self) -> None:
        """No module of dcrouter imports from above itself, across the halves, or is too long."""
        self.assertEqual(problems(Path(dcrouter.__file__).parent), [])


class RoomTests(SynchronousTestCase):
    def test_every_folder_says_what_it_is_about(self) -> None:
        """In the first line of its `__init__`, where a newcomer looks."""
        for path in sorted(Path(dcrouter.__file__).parent.rglob("__init__.py")):
            said = ast.get_docstring(ast.parse(path.read_text("utf-8")))
            self.assertTrue(said, f"{path.parent} says nothing")


class TopTests(SynchronousTestCase):
    def test_nothing_strays_into_the_repository(self) -> None:
        """Its folders are known: what tests leave behind is never committed."""
        top = Path(__file__).resolve().parent.parent
        if not (top / ".git").exists():
            raise SkipTest("this tree is not git's")
        command = ["git", "-c", f"safe.directory={top}", "-C", str(top), "ls-files"]
        names = subprocess.run(command, capture_output=True, check=True, timeout=240).stdout.decode().splitlines()
        self.assertEqual({name.partition("/")[0] for name in names if "/" in name}, FOLDERS)


class CheckerTests(SynchronousTestCase):
    """The checker sees what it is there for."""

    def check(self, modules: dict[str, str]) -> list[str]:
        """The problems of a package made of these (`wire/x`: its source)."""
        package = Path(self.mktemp()) / "dcrouter"
        for name, source in modules.items():
            path = package / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source), "utf-8")
        return problems(package)

    def test_what_is_in_order_passes(self) -> None:
        """Downwards, within a folder, the version, and other people's packages."""
        source = """
            import attrs, dcrouter
            from dcrouter import __version__, errors
            from dcrouter.net.engine import Engine
            from dcrouter.tls import store
        """
        self.assertEqual(self.check({"tls/chooser": source}), [])

    def test_an_import_from_above_is_seen(self) -> None:
        """In each form that Python has, wherever it hides."""
        for form in (
            "import dcrouter.proxy.table",
            "from dcrouter import proxy",
            "from dcrouter.proxy import table",
            "from ..proxy import table",
            "from ..proxy.table import find",
            "def late():\n    from dcrouter.proxy import table",
            "if TYPE_CHECKING:\n    from dcrouter.proxy.table import Table",
        ):
            found = self.check({"net/relay": form})
            self.assertEqual(len(found), 1, form)
            self.assertRegex(found[0], r"^net/relay.py:\d: net must not import proxy$")

    def test_the_halves_do_not_meet(self) -> None:
        """Neither imports the other, though they stand side by side."""
        self.assertEqual(
            self.check({"proxy/a": "import dcrouter.mail.b", "mail/queue/b": "import dcrouter.proxy.a"}),
            [
                "mail/queue/b.py:1: mail must not import proxy",
                "proxy/a.py:1: proxy must not import mail",
            ],
        )

    def test_the_lowest_floors_do_without_twisted(self) -> None:
        """And wire/ without sockets."""
        self.assertEqual(
            self.check({"wire/a": "import socket\nfrom twisted.internet import defer", "config/b": "import twisted"}),
            [
                "config/b.py:1: config does without twisted",
                "wire/a.py:1: wire does without socket",
                "wire/a.py:2: wire does without twisted",
            ],
        )

    def test_the_package_itself_imports_none_of_its_parts(self) -> None:
        """Or every import of any part would pull it in."""
        self.assertEqual(
            self.check({"__init__": "from dcrouter.wire import a"}), ["__init__.py:1: the package must not import wire"]
        )

    def test_a_folder_without_a_place_is_seen(self) -> None:
        """A new one is given its place on purpose."""
        self.assertEqual(
            self.check({"helpers/a": "import os"}), ["helpers/a.py: helpers has no place among the layers"]
        )

    def test_a_long_file_is_seen(self) -> None:
        """Four hundred lines pass, one more does not."""
        self.assertEqual(
            self.check({"net/a": "pass\n" * LONGEST, "net/b": "pass\n" * (LONGEST + 1)}), ["net/b.py: 401 lines"]
        )
