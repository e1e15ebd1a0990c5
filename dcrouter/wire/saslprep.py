"""SASLprep: the one form of a name or password that may be typed in several. RFC 4013, a profile of RFC 3454.

`saslprep(text)` gives the form that is stored and compared, or ValueError where the text has none: it holds what is
prohibited, mixes directions of writing, or (stored strings, RFC 3454 7) characters that Unicode 3.2 does not know.
"""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def saslprep(text: str) -> str:
    """The prepared form; nothing in an error tells of the text, which may be a password."""
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if any(prohibited(character) for character in prepared for prohibited in _PROHIBITED):
        raise ValueError("it holds characters that SASLprep does not allow (RFC 4013 2.3, 2.5)")
    if any(map(stringprep.in_table_d1, prepared)) and not _one_direction(prepared):
        raise ValueError("it mixes directions of writing (RFC 3454 6)")
    return prepared


def _one_direction(text: str) -> bool:
    """Of a text with some that run from right to left: it begins and ends with one, and none runs the other way."""
    ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return ends and not any(map(stringprep.in_table_d2, text))
