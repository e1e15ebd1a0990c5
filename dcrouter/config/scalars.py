"""From the text of a scalar to its type: environment variables first, then the core schema of YAML 1.2.

`${NAME}` is the variable, `${NAME:-default}` the default where it is unset or empty, `$${` a literal `${`. Of plain
scalars only these are no text: true, false, null (also capitalised), `~`, nothing, and numbers as JSON, `0o17`, `0x1f`,
`.inf` and `.nan` have them. `no`, `22:22` and `2026-12-01` are text.

YAML 1.2.2 section 10.3.2 (tag resolution).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Value = str | int | float | bool | None

_CONSTANTS: Mapping[str, bool | None] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
# Numbers longer than this are nobody's port or count, and int() is slow on them: they stay text.
_LONGEST_NUMBER = 100
_NUMBER = re.compile(
    r"(?P<int>[-+]?[0-9]+)|0o(?P<octal>[0-7]+)|0x(?P<hex>[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<sign>[-+]?)\.(?:inf|Inf|INF)|(?P<nan>\.(?:nan|NaN|NAN))"
)
_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>(?:(?!\$\{)[^}])*))?\}|\$\{")


def resolve(text: str) -> Value:
    """The value of a plain scalar."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "+-.0123456789" or len(text) > _LONGEST_NUMBER:
        return text
    found = _NUMBER.fullmatch(text)
    if found is None:
        return text
    if found["int"] is not None:
        return int(found["int"])
    if found["octal"] is not None:
        return int(found["octal"], 8)
    if found["hex"] is not None:
        return int(found["hex"], 16)
    if found["float"] is not None:
        return float(found["float"])
    return float("nan") if found["nan"] else float(found["sign"] + "inf")


def expand(text: str, environment: Mapping[str, str]) -> str:
    """`text` with its variables; ValueError names one that is not set, or a `${` that is not a reference."""

    def replaced(found: re.Match[str]) -> str:
        name, default = found["name"], found["default"]
        if found.group() == "$${":
            return "${"
        if name is None:
            raise ValueError("'${' is not followed by a variable and '}': ${NAME}, ${NAME:-default}, or $${ for itself")
        value = environment.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise ValueError(f"environment variable {name} is not set (with a default: ${{{name}:-...}})")
        return value

    return _REFERENCE.sub(replaced, text) if "${" in text else text
