"""A DKIM-Signature (or ARC-Message-Signature, ARC-Seal) as a value. RFC 6376 3.5, RFC 8617 4.1."""

from __future__ import annotations

import re
from typing import Literal

from attrs import frozen

from dcrouter.errors import WireError
from dcrouter.wire.asking import Question, is_askable
from dcrouter.wire.dkim import tags
from dcrouter.wire.dkim.canonical import Form

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]

_NUMBER = re.compile(r"[0-9]{1,76}")
_FORMS: dict[str, Form] = {"simple": "simple", "relaxed": "relaxed"}
_ALGORITHMS: dict[str, Algorithm] = {"rsa-sha256": "rsa-sha256", "ed25519-sha256": "ed25519-sha256"}
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*")


@frozen(kw_only=True)
class Signature:
    """`fields`: names of the header fields that are signed, in lower case; empty for a seal. `identity`: the domain of
    i=. `length`: octets of the body that are signed, None: all. `made`, `expires`: UTC epoch seconds.
    """

    algorithm: Algorithm
    domain: str
    selector: str
    value: bytes
    body_hash: bytes = b""
    fields: tuple[bytes, ...] = ()
    header_form: Form = "relaxed"
    body_form: Form = "relaxed"
    length: int | None = None
    identity: str = ""
    made: int | None = None
    expires: int | None = None

    @property
    def question(self) -> Question:
        """Where its key is."""
        return Question(f"{self.selector}._domainkey.{self.domain}", "TXT")


def of_message(value: bytes, *, arc: bool = False) -> Signature:
    """What a DKIM-Signature says, or an ARC-Message-Signature, which has no v= and another i=. Raises WireError."""
    found = parse_tags(value)
    if not arc and found.get("v") != "1":
        raise WireError("v= is not 1")
    if "h" not in found:
        raise WireError("h= is missing")
    fields = tuple(name.strip().lower().encode("ascii") for name in found["h"].split(":"))
    if not arc and b"from" not in fields:
        raise WireError("From is not signed")
    if "dns/txt" not in [method.strip() for method in found.get("q", "dns/txt").split(":")]:
        raise WireError("q= names no way that is known")
    header_form, _, body_form = found.get("c", "relaxed/relaxed" if arc else "simple/simple").partition("/")
    if header_form not in _FORMS or (body_form or "simple") not in _FORMS:
        raise WireError("c= is not known")
    domain = _domain(found)
    identity = domain if arc else found.get("i", "@" + domain).rpartition("@")[2].lower()
    if identity != domain and not identity.endswith("." + domain):
        raise WireError("i= is not in the domain of d=")
    made, expires = _number(found, "t"), _number(found, "x")
    if made is not None and expires is not None and expires <= made:
        raise WireError("x= is not behind t=")
    return Signature(
        algorithm=_algorithm(found),
        domain=domain,
        selector=_selector(found, domain),
        value=_octets(found, "b"),
        body_hash=_octets(found, "bh"),
        fields=fields,
        header_form=_FORMS[header_form],
        body_form=_FORMS[body_form or "simple"],
        length=_number(found, "l"),
        identity=identity,
        made=made,
        expires=expires,
    )


def parse_tags(value: bytes) -> dict[str, str]:
    """The tags of a header field. Raises WireError."""
    try:
        return tags.parse(value.decode("ascii"))
    except UnicodeDecodeError as error:
        raise WireError("a signature beyond ASCII") from error


def of_seal(found: dict[str, str]) -> Signature:
    """What the tags of an ARC-Seal say. Raises WireError."""
    domain = _domain(found)
    return Signature(
        algorithm=_algorithm(found),
        domain=domain,
        selector=_selector(found, domain),
        value=_octets(found, "b"),
        identity=domain,
    )


def _required(found: dict[str, str], tag: str) -> str:
    value = found.get(tag)
    if not value:
        raise WireError(f"{tag}= is missing")
    return value


def _octets(found: dict[str, str], tag: str) -> bytes:
    return tags.octets(_required(found, tag))


def _algorithm(found: dict[str, str]) -> Algorithm:
    named = _required(found, "a").lower()
    if named not in _ALGORITHMS:
        raise WireError("rsa-sha1 is no longer valid" if named == "rsa-sha1" else "a= is not known")
    return _ALGORITHMS[named]


def _domain(found: dict[str, str]) -> str:
    domain = _required(found, "d").lower()
    if _NAME.fullmatch(domain) is None or "." not in domain:
        raise WireError("d= is no domain")
    return domain


def _selector(found: dict[str, str], domain: str) -> str:
    selector = _required(found, "s").lower()
    if _NAME.fullmatch(selector) is None or not is_askable(f"{selector}._domainkey.{domain}"):
        raise WireError("s= is no selector")
    return selector


def _number(found: dict[str, str], tag: str) -> int | None:
    value = found.get(tag)
    if value is None:
        return None
    if _NUMBER.fullmatch(value) is None:
        raise WireError(f"{tag}= is no number")
    return int(value)
