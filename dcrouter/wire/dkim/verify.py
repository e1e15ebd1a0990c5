"""The DKIM signatures of one message: found in its header, hashed with its body, checked with their keys.

How it is driven: `Signatures(head)`; `body(octets)` for the body's pieces; meanwhile DNS is asked for `questions`; then
`results(answers)`. Bounded: MAX_SIGNATURES from the top, the others are told of as not looked at. RFC 6376 6.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from attrs import frozen

from dcrouter.errors import WireError
from dcrouter.wire.asking import Found, Question
from dcrouter.wire.dkim.canonical import BodyHash, Field, Form
from dcrouter.wire.dkim.key import Key
from dcrouter.wire.dkim.signature import Signature, of_message

MAX_SIGNATURES = 8
MAX_FIELDS = 1000
"""Names in one h=: more would only cost time."""

SKEW = 300
"""Seconds that a signature may be from the future, or beyond its end."""

Result = Literal["pass", "fail", "neutral", "permerror", "temperror"]
Answers = Mapping[Question, Found | None]
"""None: DNS could not be asked."""


@frozen(kw_only=True)
class Verdict:
    """Of one signature. `reason`: why it is no pass. `signature` None: it could not be read."""

    result: Result
    signature: Signature | None = None
    reason: str = ""


class Bodies:
    """The hashes of one body, in as many forms as signatures want, each once."""

    def __init__(self) -> None:
        self._hashes: dict[tuple[Form, int | None], BodyHash] = {}
        self._digests: dict[tuple[Form, int | None], bytes] = {}

    def want(self, signature: Signature) -> None:
        at = (signature.body_form, signature.length)
        if at not in self._hashes:
            self._hashes[at] = BodyHash(*at)

    def add(self, octets: bytes) -> None:
        for one in self._hashes.values():
            one.add(octets)

    def fits(self, signature: Signature) -> bool:
        """Whether the whole body is the one that was signed."""
        at = (signature.body_form, signature.length)
        if at not in self._digests:
            self._digests[at] = self._hashes[at].digest()
        return self._digests[at] == signature.body_hash and not self._hashes[at].short


class Signatures:
    """`fields`: the header's, in order; `now`: UTC epoch seconds."""

    def __init__(self, fields: Sequence[Field], bodies: Bodies, now: float) -> None:
        self._header = fields
        self._bodies = bodies
        self._now = now
        self._found: list[tuple[Field, Signature | WireError]] = []
        for field in fields:
            if field.name == b"dkim-signature" and len(self._found) < MAX_SIGNATURES:
                self._found.append((field, _read(field)))
        for _, signature in self._found:
            if isinstance(signature, Signature):
                bodies.want(signature)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def questions(self) -> set[Question]:
        return {signature.question for _, signature in self._found if isinstance(signature, Signature)}

    def results(self, answers: Answers) -> list[Verdict]:
        """In the order of the header; empty: there is no signature."""
        return [self._judge(field, signature, answers) for field, signature in self._found]

    def _judge(self, field: Field, signature: Signature | WireError, answers: Answers) -> Verdict:
        if isinstance(signature, WireError):
            return Verdict(result="permerror", reason=str(signature))
        if signature.expires is not None and signature.expires + SKEW < self._now:
            return Verdict(result="fail", signature=signature, reason="expired")
        if signature.made is not None and signature.made > self._now + SKEW:
            return Verdict(result="fail", signature=signature, reason="from the future")
        result, reason = check(field, signature, self._header, self._bodies, answers)
        return Verdict(result=result, signature=signature, reason=reason)


def check(
    field: Field, signature: Signature, header: Sequence[Field], bodies: Bodies, answers: Answers
) -> tuple[Result, str]:
    """(result, reason) of a signature over header and body that stands in `field`."""
    key = key_of(signature, answers)
    if not isinstance(key, Key):
        return key
    if not bodies.fits(signature):
        return "fail", "the body has changed"
    if not key.fits(signature.value, _digest(field, signature, header)):
        return "fail", "the signature does not fit"
    return "pass", ""


def key_of(signature: Signature, answers: Answers) -> Key | tuple[Result, str]:
    """The key, or what the lack of it makes of the signature."""
    found = answers.get(signature.question)
    if found is None:
        return "temperror", "no word from DNS about the key"
    if not found.values:
        return "permerror", "there is no key"
    try:
        return Key(found.values[0], signature)
    except WireError as error:
        return "permerror", str(error)


def digest_of(fields: Iterable[bytes]) -> bytes:
    """SHA-256 of canonical fields, the last of which, the signature's own, has no CRLF."""
    return hashlib.sha256(b"\r\n".join(fields)).digest()


def _digest(field: Field, signature: Signature, header: Sequence[Field]) -> bytes:
    """A name of h= stands for the lowest field of that name that is not taken yet; for none where none is left, so that
    a field that is added later breaks the signature (RFC 6376 5.4.2).
    """
    left: dict[bytes, list[Field]] = {name: [] for name in signature.fields}
    for one in header:
        if one.name in left and one is not field:
            left[one.name].append(one)
    chosen = [left[name].pop() for name in signature.fields if left[name]]
    form = signature.header_form
    return digest_of([*(one.canonical(form) for one in chosen), field.without(b"b").canonical(form)])


def _read(field: Field) -> Signature | WireError:
    try:
        signature = of_message(field.value)
    except WireError as error:
        return error
    if len(signature.fields) > MAX_FIELDS:
        return WireError("too many names in h=")
    return signature
