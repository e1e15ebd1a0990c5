"""What `strace -f -yy -xx -o FILE` wrote, as calls that know when they began and when they ended.

Time is the number of the line. A call that others interrupted is two lines, `<unfinished ...>` and `resumed`; strings
are decoded, as far as -s has kept them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

_LINE = re.compile(r"^(\d+) +(.*)$")
_RESUMED = re.compile(r"^<\.\.\. \w+ resumed>(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+)", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PATH = re.compile(r"<((?:[^<>]|->)*)>")


@frozen
class Call:
    """`file`: what its first descriptor is (a path, or TCP:[from->to]). `data`: its first string. `offset`: its last
    argument, where that is a number."""

    thread: int
    name: str
    begin: int
    end: int
    file: str
    data: bytes
    arguments: str
    result: int

    @property
    def offset(self) -> int:
        last = self.arguments.rpartition(", ")[2]
        return int(last) if last.isdecimal() else -1


def calls(lines: Iterable[str]) -> list[Call]:
    """All that have ended, in the order of their beginnings; lines of signals and exits are passed over."""
    found = []
    open_: dict[int, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if match is None:
            continue
        thread, text = int(match[1]), match[2]
        if text.endswith("<unfinished ...>"):
            open_[thread] = (number, text.removesuffix("<unfinished ...>").rstrip())
            continue
        begin = number
        resumed = _RESUMED.match(text)
        if resumed is not None:
            if thread not in open_:
                continue
            begin, head = open_.pop(thread)
            text = head + resumed[1]
        call = _CALL.match(text)
        if call is not None:
            found.append(_call(thread, begin, number, call))
    return sorted(found, key=lambda one: one.begin)


def _call(thread: int, begin: int, end: int, match: re.Match[str]) -> Call:
    arguments = match[2]
    string = _STRING.search(arguments)
    path = _PATH.search(_STRING.sub('""', arguments))
    return Call(
        thread, match[1], begin, end,
        _plain(path[1]) if path is not None else "",
        bytes.fromhex(string[1].replace("\\x", "")) if string is not None else b"",
        _STRING.sub('""', arguments), int(match[3], 0),
    )  # fmt: skip


def _plain(path: str) -> str:
    """-xx writes paths of descriptors in hexadecimal as well."""
    if re.fullmatch(r"(?:\\x[0-9a-f]{2})+", path):
        return bytes.fromhex(path.replace("\\x", "")).decode()
    return path
