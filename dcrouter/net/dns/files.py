"""Two files of the system, read again when they change: /etc/resolv.conf and /etc/hosts. resolv.conf(5), hosts(5)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from attrs import frozen

from dcrouter.config.names import is_address

MAX_FILE = 4 * 1024 * 1024
"""Octets read; a hosts file that blocks advertising has a few of them."""

LOOK_AGAIN = 1.0
"""Seconds for which a file is taken to be unchanged without looking."""

MAX_SEARCH = 6
"""Domains of `search`, as ever in resolv.conf(5)."""

T = TypeVar("T")


class Watched(Generic[T]):
    """What a file says, as `parse` reads it; of an absent or unreadable one, what `parse("")` gives."""

    def __init__(self, path: Path, parse: Callable[[str], T], seconds: Callable[[], float]) -> None:
        self._path = path
        self._parse = parse
        self._seconds = seconds
        self._look = float("-inf")
        self._seen: tuple[int, ...] | None = None
        self._value = parse("")

    def get(self) -> T:
        now = self._seconds()
        if now >= self._look:
            self._look = now + LOOK_AGAIN
            self._refresh()
        return self._value

    def _refresh(self) -> None:
        seen: tuple[int, ...]
        try:
            found = os.stat(self._path)
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return
            with self._path.open("rb") as stream:
                text = stream.read(MAX_FILE).decode("utf-8", "replace")
        except OSError:
            seen, text = (), ""
        self._seen, self._value = seen, self._parse(text)


@frozen
class ResolvConf:
    """`servers`: addresses, perhaps with a scope (`fe80::1%eth0`). `search`: domains that short names are tried in."""

    servers: tuple[str, ...]
    search: tuple[str, ...] = ()
    ndots: int = 1


def parse_resolv_conf(text: str) -> ResolvConf:
    """Where no server is named, the local one is meant."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    ndots = 1
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0][0] in "#;":
            continue
        if words[0] == "nameserver" and is_address(words[1]):
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = tuple(word.strip(".").lower() for word in words[1 : 1 + MAX_SEARCH] if word.strip("."))
        elif words[0] == "options":
            for word in words[1:]:
                name, _, value = word.partition(":")
                if name == "ndots" and value.isdecimal():
                    ndots = min(int(value), 15)
    return ResolvConf(tuple(dict.fromkeys(servers)) or ("127.0.0.1",), search, ndots)


def parse_hosts(text: str) -> Mapping[str, tuple[str, ...]]:
    """Name, in lower case -> its addresses in the order of the file."""
    names: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2 or not is_address(words[0]):
            continue
        for word in words[1:]:
            known = names.setdefault(word.lower().removesuffix("."), [])
            if words[0] not in known:
                known.append(words[0])
    return {name: tuple(addresses) for name, addresses in names.items()}
