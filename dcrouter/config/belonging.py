"""Where a key belongs that stands in the wrong mapping: `protocol` under `routes[0].match` is one of `routes[0]`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

import attrs

from dcrouter.config.admin import Config
from dcrouter.config.findings import Path
from dcrouter.config.keys import element_of, fields_of, is_mapping, variants_of, without_none

_EACH = 0
"""Stands for any index, and for any name that the operator chooses."""


def home_of(path: Path) -> Path | None:
    """The place that was probably meant by the unknown key at `path`: the nearest one of its name, at most one mapping
    up and one down from the one it stands in; None where there is none, or more than one.
    """
    around, word = path[:-1], path[-1]
    near: dict[int, set[Path]] = {}
    for home in _homes().get(str(word), ()):
        shared = _shared(around, home[:-1])
        up, down = around[shared:], home[shared:-1]
        if (shared or not around) and len(up) <= 1 and len(down) <= 1 and _EACH not in down and up != down:
            near.setdefault(shared, set()).add((*path[:shared], *home[shared:]))
    nearest = near[max(near)] if near else set()
    return nearest.pop() if len(nearest) == 1 else None


def _shared(around: Path, home: Path) -> int:
    """How many steps the two have in common."""
    count = 0
    for one, other in zip(around, home, strict=False):
        if one != other and other != _EACH:
            break
        count += 1
    return count


@cache
def _homes() -> Mapping[str, set[Path]]:
    """All keys there are, by their word."""
    homes: dict[str, set[Path]] = {}
    for path in _walk(Config, (), frozenset()):
        homes.setdefault(str(path[-1]), set()).add(path)
    return homes


def _walk(cls: type, path: Path, above: frozenset[type]) -> Iterator[Path]:
    for word, field in fields_of(cls).items():
        yield (*path, word)
        if field.key.single is not None:
            yield (*path, field.key.single)
        for inner, below in _inside(field.type, (*path, word)):
            if inner not in above:
                yield from _walk(inner, below, above | {cls})


def _inside(type_: Any, path: Path) -> Iterator[tuple[type, Path]]:
    """The classes of values that a key takes."""
    inner, _ = without_none(type_)
    element = element_of(inner)
    if element is not None:
        yield from _inside(element, (*path, _EACH))
    elif is_mapping(inner):
        yield from _inside(get_args(inner)[1], (*path, _EACH))
    elif attrs.has(inner):
        yield inner, path
    else:
        for one in variants_of(inner).values():
            yield one, path
