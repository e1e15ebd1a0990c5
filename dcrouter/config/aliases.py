"""Aliases (`aliases_file`): addresses that stand for others, as a YAML mapping.

    sales@example.com: alice@example.com
    team@example.com: [sales@example.com, bob@example.com, carol@elsewhere.example]
    root: alice@example.com

A name without a domain is one of email.hostname. An alias may stand for aliases, MAX_DEPTH deep and for MAX_TARGETS
addresses in all; one that names itself means its own mailbox beside the others; any longer circle is a problem. The
file changes while dcrouter runs, so nothing of it is in the `Config`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from dcrouter.config.document import compose, decoded
from dcrouter.config.findings import Findings
from dcrouter.config.named import read_named
from dcrouter.config.nodes import Sequence
from dcrouter.config.patterns import mail_address, split, whole
from dcrouter.config.place import Invalid, Place
from dcrouter.config.units import shown
from dcrouter.errors import ConfigError

MAX_DEPTH = 10
"""Aliases that lead on to each other, one after the other."""
MAX_TARGETS = 1000
"""Addresses that one alias stands for, those counted twice that are reached by two ways: as many as a message has
recipients unless told (email.max_recipients)."""
MOST_BYTES = 4 * 1024 * 1024
"""Some ten thousands of aliases: the mail process reads them beside its mail."""
MOST_PROBLEMS = 20
"""That are told: one slip of a script is in every line."""


@frozen(eq=False)
class Aliases:
    """`targets`: of each alias, in the form that addresses are compared in, what the file says."""

    targets: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.targets)

    def expand(self, address: str) -> tuple[str, ...] | None:
        """Whom an address stands for in the end, each once; None where it is no alias."""
        alias = _compared(address)
        if alias not in self.targets:
            return None
        return tuple(dict(self._ends(alias)).values())

    def _ends(self, alias: str) -> Iterator[tuple[str, str]]:
        """(compared, as it was written)."""
        for target in self.targets[alias]:
            key = _compared(target)
            if key == alias or key not in self.targets:
                yield key, target
            else:
                yield from self._ends(key)


def load_aliases(path: Path, hostname: str, environment: Mapping[str, str] | None = None) -> Aliases:
    """The file. Raises ConfigError with its problems, as `file:line:column: ...`."""
    data = read_named(path, MOST_BYTES)
    if isinstance(data, str):
        raise ConfigError([data])
    findings = Findings()
    root = compose(decoded(data, path), os.environ if environment is None else environment, findings)
    targets: dict[str, tuple[str, ...]] = {}
    if root is not None:
        with suppress(Invalid):
            targets = _read(Place.root(root, findings), hostname)
    if findings.problems:
        problems = sorted(findings.problems)
        lines = [problem.show(str(path)) for problem in problems[:MOST_PROBLEMS]]
        if len(problems) > MOST_PROBLEMS:
            lines.append(f"{path} has {len(problems) - MOST_PROBLEMS} more problems")
        raise ConfigError(lines)
    return Aliases(targets)


def _read(root: Place, hostname: str) -> dict[str, tuple[str, ...]]:
    targets: dict[str, tuple[str, ...]] = {}
    places: dict[str, Place] = {}
    for written, place in root.entries():
        with suppress(Invalid):
            alias = _compared(_address(written, hostname, place))
            if alias in places:
                place.fail(f"is also said in line {places[alias].line}")
            places[alias] = place
            given = place.items() if isinstance(place.node, Sequence) else [place]
            if not given:
                place.fail("stands for nobody: leave it out, and the address is what the rules make of it")
            targets[alias] = tuple(_target(one, hostname) for one in given)
    if not root.findings.problems:
        _Extent(targets, places).measure()
    return targets


def _target(place: Place, hostname: str) -> str:
    return _address(place.scalar("an address, or a list of them").text.strip(), hostname, place)


def _address(text: str, hostname: str, place: Place) -> str:
    if text.startswith(("|", "/", ":include:")):
        place.fail(f"{shown(text)}: an alias stands for addresses, not for a program, a file or another list")
    if "," in text:
        place.fail(f"{shown(text)}: several addresses are a list: [a@example.com, b@example.com]")
    if not text.rpartition("@")[0].isascii():
        place.fail(f"{shown(text)}: a name beyond ASCII needs SMTPUTF8, which not every sender of its mail has")
    try:
        return mail_address(text if "@" in text else f"{text}@{hostname}")
    except ValueError as error:
        place.fail(str(error))


def _compared(address: str) -> str:
    return whole(*split(address))


class _Extent:
    """How deep aliases lead, and to how many; each is looked at once."""

    def __init__(self, targets: Mapping[str, tuple[str, ...]], places: Mapping[str, Place]) -> None:
        self._targets = targets
        self._places = places
        self._known: dict[str, tuple[int, int]] = {}

    def measure(self) -> None:
        """Tells of each alias that goes too far; ends with the first that has no end."""
        with suppress(Invalid):
            for alias in self._targets:
                self._of(alias, [])

    def _of(self, alias: str, way: list[str]) -> tuple[int, int]:
        """(depth, addresses)."""
        known = self._known.get(alias)
        if known is not None:
            return known
        if alias in way:
            circle = " -> ".join([*way[way.index(alias) :], alias])
            self._places[alias].fail(f"leads back to itself: {circle}")
        if len(way) > MAX_DEPTH:
            self._places[way[0]].fail(f"leads on through more than {MAX_DEPTH} aliases")
        depth, count = 0, 0
        for target in self._targets[alias]:
            key = _compared(target)
            below = (0, 1) if key == alias or key not in self._targets else self._of(key, [*way, alias])
            depth, count = max(depth, below[0] + 1), count + below[1]
        if depth > MAX_DEPTH:
            self._places[alias].fail(f"leads on through more than {MAX_DEPTH} aliases")
        if count > MAX_TARGETS:
            self._places[alias].fail(f"stands for more than {MAX_TARGETS} addresses")
        self._known[alias] = depth, count
        return depth, count
