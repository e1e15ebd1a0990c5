"""What a run counts, and what both ends of an exchange know: its octets, and how they are written."""

from __future__ import annotations

import asyncio
import math
from random import Random

from attrs import define, field

PATIENCE = 120.0
"""Seconds for a whole exchange."""
_MOST_COMPLAINTS = 20


@define
class Tally:
    """Of one kind of exchange. `wrong` has a line for each that went wrong."""

    exchanges: int = 0
    octets: int = 0
    wrong: list[str] = field(factory=list)

    @property
    def enough(self) -> bool:
        """So much is wrong that more would tell nothing."""
        return len(self.wrong) >= _MOST_COMPLAINTS

    def line(self, name: str) -> str:
        return f"{name}: {self.exchanges} exchanges, {self.octets / 1e6:.0f} MB, {len(self.wrong)} wrong"


def dice(*words: object) -> Random:
    """Chance that is the same wherever the words are."""
    return Random("/".join(map(str, words)))


def size(random: Random, most: int) -> int:
    """Octets, as often tens as thousands as millions; sometimes none."""
    return 0 if random.random() < 0.1 else int(math.exp(random.uniform(0, math.log(most))))


async def write(writer: asyncio.StreamWriter, data: bytes, random: Random) -> None:
    """In pieces, now and then with a pause."""
    at = 0
    while at < len(data):
        length = size(random, 1 << random.choice((3, 10, 14, 18))) + 1 if random.random() < 0.7 else len(data)
        if len(data) > 1 << 16:
            length = max(length, 1 << 12)
        writer.write(data[at : at + length])
        at += length
        await writer.drain()
        if random.random() < 0.05:
            await asyncio.sleep(random.uniform(0, 0.01))


def difference(expected: bytes, found: bytes) -> str:
    """Where two byte strings part."""
    if found == expected:
        return "equal"
    shared = next((at for at, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), None)
    if shared is None:
        return f"{len(found)} octets and not {len(expected)}"
    return f"another octet at {shared} of {len(expected)}, {len(found)} came"
