"""What can be told of a regular expression by reading it: whether it can explode, and whether it names a domain.

Python's `re` tries one way after the other. On text of length n, an expression with k unbounded repetitions side by
side has about n**k ways, each `?` doubles them, and a repetition inside a repetition has 2**n. So: nothing that repeats
or chooses inside a group that repeats, no back-references, and a bound on the product of all choices: on the 320
characters of a mail address the worst that is let through takes some tens of milliseconds.
"""

from __future__ import annotations

import re

from attrs import define, field

LONGEST_TEXT = 320
"""What expressions here are matched against at most: a mail address."""
MOST_WAYS = LONGEST_TEXT**2 * 64
"""Two unbounded repetitions and a handful of choices, or the like."""

_COUNT = re.compile(r"\{(?=[\d,]+\})(\d*)(?:(,)(\d*))?\}")
_LITERALS = re.compile(r"[A-Za-z0-9_@-]")
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


def refuse_explosive(pattern: str) -> None:
    """ValueError where `pattern`, which compiles, could take very long on a text of LONGEST_TEXT characters."""
    _read(pattern)


def literal_domain(pattern: str) -> bool:
    """Whether every text that `pattern` matches ends with a domain that it names letter by letter.

    `@example\\.com` or `\\.example\\.com` at the end of each alternative; an unescaped dot is any character, and a
    domain without a border before it (`example\\.com`) is also the end of others.
    """
    if "(?" in pattern and re.search(r"\(\?[aiLmsu]*x", pattern):
        return False
    return all(_names_domain(tail) for tail in _read(pattern))


def _names_domain(tail: str) -> bool:
    """`tail`: the literal characters at the end, as they are compared."""
    if "@" in tail:
        domain = tail.rpartition("@")[2]
        return re.fullmatch(rf"{_LABEL}(?:\.{_LABEL})*", domain) is not None
    # The leftmost label may be the end of a longer one; those behind its dot are whole.
    whole = tail.partition(".")[2]
    return re.fullmatch(rf"{_LABEL}(?:\.{_LABEL})+", whole) is not None


def _read(pattern: str) -> list[str]:
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
            step, low, high = _repetition(text, at)
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
    if ways > MOST_WAYS:
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


def _repetition(text: str, at: int) -> tuple[int, int, int]:
    """(length, fewest, most times) of the quantifier at `at`; without a bound, as often as the text is long."""
    char = text[at]
    if char == "{":
        found = _COUNT.match(text, at)
        assert found is not None
        length = len(found.group())
        low, comma, high = found.groups()
        fewest = int(low or 0)
        most = int(high or LONGEST_TEXT) if comma else fewest
    else:
        length, fewest, most = 1, 0, 1 if char == "?" else LONGEST_TEXT - 1
    # A lazy or possessive mark behind it belongs to it.
    length += text[at + length : at + length + 1] in ("?", "+")
    return length, fewest, min(most, LONGEST_TEXT)
