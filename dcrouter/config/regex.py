"""What can be told of a regular expression by reading it: whether it can explode, and whether it names a domain.

Python's `re` tries one way after the other. On text of length n, an expression with k unbounded repetitions side by
side has about n**k ways, each `?` doubles them, and a repetition inside a repetition has 2**n. So: nothing that repeats
or chooses inside a group that repeats, no back-references, and a bound on the product of all choices: on the 320
characters of a mail address the worst that is let through takes some tens of milliseconds. What connections are told
apart by, where an attacker chooses the text and everybody waits for the answer, is bounded more tightly.
"""

from __future__ import annotations

import re
from functools import lru_cache

from attrs import define, field

from dcrouter.config.units import shown

LONGEST_TEXT = 320
"""What expressions are matched against at most unless told otherwise: a mail address."""
MANY_CHOICES = 64
"""Six times `?` beside two unbounded repetitions, or the like: the bound on ways, in squares of the longest text."""
FEW_CHOICES = 8

_COUNT = re.compile(r"\{(?=[\d,]+\})(\d*)(?:(,)(\d*))?\}")
_LITERALS = re.compile(r"[A-Za-z0-9_@-]")
_LITERAL_PIECE = re.compile(r"[A-Za-z0-9_@/:;,%&=<>~!-]|\\[^A-Za-z0-9]")
_LABEL = r"[A-Za-z0-9_-]+"


@define
class _Group:
    """A group while it is read.

    `risky`: it repeats or chooses, and must not be repeated itself. `tail`: the literal characters at its end so far;
    `tails`: those of the alternatives before. `bare`: it looks around and takes no characters.
    """

    risky: bool = False
    tails: list[str] = field(factory=list)
    tail: str = ""
    bare: bool = False

    def ends_at_border(self) -> bool:
        """Whether each alternative ends between two labels."""
        return not self.bare and all(tail.endswith((".", "@")) for tail in (*self.tails, self.tail))


def refuse_explosive(pattern: str, longest: int = LONGEST_TEXT, choices: int = MANY_CHOICES) -> None:
    """ValueError where `pattern`, which compiles, could take very long on a text of `longest` characters: where it can
    be tried in more than `choices` times the square of that many ways.
    """
    _read(pattern, longest, choices)


@lru_cache(maxsize=1024)
def expression(text: str, longest: int, *, ignore_case: bool, choices: int = FEW_CHOICES) -> re.Pattern[str]:
    """What stands behind `re:` in `text`, to be asked by `fullmatch` about `longest` characters at most; or
    ValueError.
    """
    pattern = text.removeprefix("re:")
    try:
        compiled = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{shown(text)} is not a regular expression: {error}") from None
    refuse_explosive(pattern, longest, choices)
    return compiled


def may_meet(one: str, other: str) -> bool:
    """Whether some text may match both `re:` patterns: not where they begin or end with other literal characters."""
    if one == other:
        return True
    (start, end), (other_start, other_end) = _literal_ends(one), _literal_ends(other)
    starts = start.startswith(other_start) or other_start.startswith(start)
    return starts and (end.endswith(other_end) or other_end.endswith(end))


def _literal_ends(text: str) -> tuple[str, str]:
    """The literal characters that every text which matches begins and ends with, in lower case, as far as can be told
    by looking.
    """
    pattern = text.removeprefix("re:").removeprefix("^").removesuffix("$")
    if "|" in pattern or "(?" in pattern or pattern.endswith("\\"):
        return "", ""
    pieces = re.findall(r"\\.|.", pattern, re.DOTALL)
    literal = [_LITERAL_PIECE.fullmatch(piece) is not None for piece in pieces]
    first = next((at for at, one in enumerate(literal) if not one), len(pieces))
    # What a quantifier stands behind is not certain to be there.
    first -= first < len(pieces) and first > 0 and pieces[first] in "*+?{"
    last = next((at for at, one in zip(range(len(pieces), 0, -1), reversed(literal), strict=True) if not one), 0)
    unescaped = [piece[-1].lower() for piece in pieces]
    return "".join(unescaped[:first]), "".join(unescaped[last:])


def literal_domain(pattern: str) -> bool:
    """Whether every text that `pattern` matches ends with a domain that it names letter by letter.

    `@example\\.com` or `\\.example\\.com` at the end of each alternative; an unescaped dot is any character, and a
    domain without a border before it (`example\\.com`) is also the end of others.
    """
    if "(?" in pattern and re.search(r"\(\?[aiLmsu]*x", pattern):
        return False
    return all(_names_domain(tail) for tail in _read(pattern, LONGEST_TEXT, MANY_CHOICES))


def _names_domain(tail: str) -> bool:
    """`tail`: the literal characters at the end, as they are compared."""
    if "@" in tail:
        domain = tail.rpartition("@")[2]
        return re.fullmatch(rf"{_LABEL}(?:\.{_LABEL})*", domain) is not None
    # The leftmost label may be the end of a longer one; those behind its dot are whole.
    whole = tail.partition(".")[2]
    return re.fullmatch(rf"{_LABEL}(?:\.{_LABEL})+", whole) is not None


def _read(pattern: str, longest: int, choices: int) -> list[str]:
    """The literal end of each alternative at the top; ValueError for what is refused."""
    stack = [_Group()]
    ways = 1
    last: _Group | None = None
    before = ""
    at = 0
    text = pattern[:-1] if pattern.endswith("$") and not pattern.endswith("\\$") else pattern
    text = text.removesuffix(r"\Z")
    while at < len(text):
        char, group = text[at], stack[-1]
        step, closed = 1, None
        if char == "\\":
            step, escaped = 2, text[at + 1 : at + 2]
            if escaped.isdigit() and escaped != "0":
                raise ValueError(f"'re:{pattern}' refers back to a group: that can take very long")
            group.tail = group.tail + escaped if escaped in (".", "-", "@", "_") else ""
        elif char == "[":
            step, group.tail = _class_end(text, at) - at, ""
        elif char == "(":
            if text.startswith("(?P=", at) or text.startswith("(?(", at):
                raise ValueError(f"'re:{pattern}' refers back to a group: that can take very long")
            found = re.compile(r"\((?:\?(?:P<\w+>|<?[=!]|[aiLmsux-]*:|[aiLmsux]+|:|>|#[^)]*))?").match(text, at)
            step = len(found.group()) if found is not None else 1
            stack.append(_Group(bare="=" in text[at : at + step] or "!" in text[at : at + step]))
        elif char == ")" and len(stack) > 1:
            closed = stack.pop()
            stack[-1].risky |= closed.risky
            before, stack[-1].tail = stack[-1].tail, "." if closed.ends_at_border() else ""
        elif char == "|":
            group.risky = True
            group.tails.append(group.tail)
            group.tail = ""
            # At the top, alternatives are tried one after the other; inside a group, each with all that follows.
            ways *= 2 if len(stack) > 1 else 1
        elif char in "*+?" or (char == "{" and _COUNT.match(text, at)):
            step, low, high = _repetition(text, at, longest)
            if last is not None and high > 1 and last.risky:
                raise ValueError(f"'re:{pattern}' repeats what already repeats or chooses: that can take very long")
            ways *= max(1, high - low + 1)
            group.risky = True
            # `@(.+\.)?example\.com`: with the group or without it, a label begins here.
            kept = last is not None and (low, high) == (0, 1) and before.endswith((".", "@"))
            group.tail = group.tail if kept else ""
        else:
            group.tail = group.tail + char if _LITERALS.match(char) else ""
        last = closed
        at += step
    if ways > longest**2 * choices:
        raise ValueError(f"'re:{pattern}' repeats and chooses too often: that can take very long")
    return [*stack[0].tails, stack[0].tail]


def _class_end(text: str, at: int) -> int:
    """Just behind the `]` that ends the class which begins at `at`."""
    at += 1
    if text[at : at + 1] == "^":
        at += 1
    if text[at : at + 1] == "]":
        at += 1
    while at < len(text) and text[at] != "]":
        at += 2 if text[at] == "\\" else 1
    return at + 1


def _repetition(text: str, at: int, longest: int) -> tuple[int, int, int]:
    """(length, fewest, most times) of the quantifier at `at`; without a bound, as often as the text is long."""
    char = text[at]
    if char == "{":
        found = _COUNT.match(text, at)
        assert found is not None
        length = len(found.group())
        low, comma, high = found.groups()
        fewest = int(low or 0)
        most = int(high or longest) if comma else fewest
    else:
        length, fewest, most = 1, 0, 1 if char == "?" else longest - 1
    # A lazy or possessive mark behind it belongs to it.
    length += text[at + length : at + length + 1] in ("?", "+")
    return length, fewest, min(most, longest)
