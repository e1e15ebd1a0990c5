"""Which keys a value of the configuration has: read once from its class, for all who need them."""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import attrs
from attrs import NOTHING, Factory, frozen

from dcrouter.config.forms import Key, key_of


@frozen(kw_only=True)
class Field:
    """One key: `word` in the file, `attribute` of the class, resolved `type`, and what stands beside it in `key`."""

    word: str
    attribute: str
    type: Any
    key: Key
    default: Any

    @property
    def required(self) -> bool:
        """Whether it must be said."""
        return self.default is NOTHING


@cache
def fields_of(cls: type) -> Mapping[str, Field]:
    """The keys of an attrs class by their words, in its order."""
    attrs.resolve_types(cls)
    fields = {}
    for attribute in attrs.fields(cls):
        key = key_of(attribute.metadata)
        if key is not None:
            word = key.name or attribute.name
            fields[word] = Field(
                word=word, attribute=attribute.name, type=attribute.type, key=key, default=attribute.default
            )
    return fields


def default_of(field: Field) -> Any:
    """The value where nothing is said; NOTHING where it must be, or depends on the rest of the value."""
    default = field.default
    if isinstance(default, Factory):  # type: ignore[arg-type]
        return NOTHING if default.takes_self else default.factory()
    return default


def without_none(type_: Any) -> tuple[Any, bool]:
    """`X | None` -> (X, True)."""
    if get_origin(type_) in (types.UnionType, Union):
        rest = tuple(one for one in get_args(type_) if one is not types.NoneType)
        if len(rest) < len(get_args(type_)):
            return (rest[0] if len(rest) == 1 else Union[rest]), True  # noqa: UP007
    return type_, False


def element_of(type_: Any) -> Any:
    """`tuple[X, ...]` -> X; None for what is no list."""
    return get_args(type_)[0] if get_origin(type_) is tuple else None


def is_mapping(type_: Any) -> bool:
    """Whether it is `dict[str, X]`: a mapping whose keys the operator chooses."""
    origin: Any = get_origin(type_)
    return origin is dict


def words_of(type_: Any) -> tuple[str, ...]:
    """`Literal[...]` -> its words; empty for what is none."""
    return tuple(map(str, get_args(type_))) if get_origin(type_) is Literal else ()


def is_variant(field: Field) -> bool:
    """Whether it is the `type` that tells a class from others."""
    return field.word == "type" and len(words_of(field.type)) == 1


def variants_of(type_: Any) -> Mapping[str, type]:
    """A union of classes that `type` tells apart -> those by their word; empty for what is none."""
    if get_origin(type_) not in (types.UnionType, Union) or not all(map(attrs.has, get_args(type_))):
        return {}
    return {words_of(fields_of(cls)["type"].type)[0]: cls for cls in get_args(type_)}
