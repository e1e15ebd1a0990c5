"""An ARC chain: what each host on a message's way vouches for. RFC 8617 5.2.

How it is driven, as `dkim.verify`: `Chain(fields, bodies, now)`; the body; answers to `questions`; then `result`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from attrs import frozen

from dcrouter.errors import WireError
from dcrouter.wire.asking import Question
from dcrouter.wire.dkim.canonical import Field
from dcrouter.wire.dkim.signature import Signature, of_message, of_seal, parse_tags
from dcrouter.wire.dkim.verify import Answers, Bodies, check, digest_of, key_of

MAX_SETS = 50
"""RFC 8617 4.2.1."""

_RESULTS, _MESSAGE, _SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
_NAMES = (_RESULTS, _MESSAGE, _SEAL)
_INSTANCE = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,3})[ \t\r\n]*;")
_NUMBER = re.compile(r"[1-9][0-9]?")

Result = Literal["none", "pass", "fail", "temperror"]


class Arc(NamedTuple):
    """`reason`: why it is no pass. `sealer`: the domain of the last seal, of a chain that passes."""

    result: Result
    reason: str = ""
    sealer: str = ""


@frozen
class _Set:
    results: Field
    message: Field
    signature: Signature
    seal_field: Field
    seal: Signature


class Chain:
    """`fields`: the message's, in order. A chain whose form is broken asks nothing."""

    def __init__(self, fields: Sequence[Field], bodies: Bodies) -> None:
        self._header = fields
        self._bodies = bodies
        self._sets: list[_Set] = []
        self._problem = ""
        found = [field for field in fields if field.name in _NAMES]
        try:
            self._sets = _sets(found) if found else []
        except WireError as error:
            self._problem = str(error)
        if self._sets:
            bodies.want(self._sets[-1].signature)

    @property
    def questions(self) -> set[Question]:
        """Where the keys of the seals, and of the last message signature, are."""
        asked = {one.seal.question for one in self._sets}
        return asked | {self._sets[-1].signature.question} if self._sets else asked

    def result(self, answers: Answers) -> Arc:
        """What the chain is worth; the body must be all here."""
        if self._problem:
            return Arc("fail", self._problem)
        if not self._sets:
            return Arc("none")
        last = self._sets[-1]
        said, reason = check(last.message, last.signature, self._header, self._bodies, answers)
        if said != "pass":
            return Arc("temperror" if said == "temperror" else "fail", f"message signature {len(self._sets)}: {reason}")
        for number in range(len(self._sets), 0, -1):
            seal = self._sets[number - 1].seal
            key = key_of(seal, answers)
            if isinstance(key, tuple):
                return Arc("temperror" if key[0] == "temperror" else "fail", f"seal {number}: {key[1]}")
            if not key.fits(seal.value, self._sealed(number)):
                return Arc("fail", f"seal {number} does not fit")
        return Arc("pass", sealer=last.seal.domain)

    def _sealed(self, number: int) -> bytes:
        """What a seal covers: all sets up to its own, in order (RFC 8617 5.1.1)."""
        covered: list[bytes] = []
        for at, one in enumerate(self._sets[:number], 1):
            seal = one.seal_field.without(b"b") if at == number else one.seal_field
            covered += [one.results.canonical("relaxed"), one.message.canonical("relaxed"), seal.canonical("relaxed")]
        return digest_of(covered)


def _sets(found: list[Field]) -> list[_Set]:
    """The sets by their numbers. Raises WireError for a chain whose form is broken (RFC 8617 5.2, steps 2 and 3)."""
    if len(found) > MAX_SETS * len(_NAMES):
        raise WireError("too many sets")
    by_number: dict[int, dict[bytes, Field]] = {}
    for field in found:
        one = by_number.setdefault(_instance(field), {})
        if field.name in one:
            raise WireError(f"{field.name.decode()} is there twice")
        one[field.name] = field
    if sorted(by_number) != list(range(1, len(by_number) + 1)) or len(by_number) > MAX_SETS:
        raise WireError("sets are missing")
    return [_set(number, by_number[number]) for number in sorted(by_number)]


def _set(number: int, fields: dict[bytes, Field]) -> _Set:
    if len(fields) != len(_NAMES):
        raise WireError(f"set {number} is not whole")
    message, sealed = fields[_MESSAGE], fields[_SEAL]
    signature = of_message(message.value, arc=True)
    if _SEAL in signature.fields:
        raise WireError(f"message signature {number} signs seals")
    tags = parse_tags(sealed.value)
    if "h" in tags:
        raise WireError(f"seal {number} has h=")
    if tags.get("cv", "").lower() != ("none" if number == 1 else "pass"):
        raise WireError(f"seal {number} does not vouch for the chain before it")
    return _Set(fields[_RESULTS], message, signature, sealed, of_seal(tags))


def _instance(field: Field) -> int:
    """The number of the set that a field is of; in Authentication-Results it comes first (RFC 8617 4.1.1)."""
    if field.name == _RESULTS:
        found = _INSTANCE.match(field.value)
        text = found[1].decode("ascii") if found is not None else ""
    else:
        text = parse_tags(field.value).get("i", "")
    if _NUMBER.fullmatch(text) is None or int(text) > MAX_SETS:
        raise WireError("i= is no number of a set")
    return int(text)
