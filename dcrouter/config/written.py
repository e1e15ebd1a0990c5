"""Values as the operator would write them: for the defaults in JSON Schema and reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from attrs import NOTHING

from dcrouter.config.forms import Duration, Size, form_of
from dcrouter.config.keys import Field, default_of, element_of, without_none
from dcrouter.config.mail import MailPort
from dcrouter.config.units import written_duration, written_size


def written_default(field: Field) -> Any:
    """The default of a key as JSON-ready values; None where there is none, or nothing short to say of it."""
    default = default_of(field)
    return None if default is NOTHING else _written(default, field.type)


def _written(value: Any, type_: Any) -> Any:
    inner, _ = without_none(type_)
    if isinstance(value, tuple):
        return [_written(one, element_of(inner)) for one in value] or None
    if isinstance(value, MailPort):
        return value.port
    if attrs.has(type(value)) or value is None or value in ("", {}):
        return None
    if form_of(inner) is form_of(Duration):
        return written_duration(value)
    if form_of(inner) is form_of(Size):
        return written_size(value)
    return value if isinstance(value, str | int | float) and not isinstance(value, Path) else str(value)
