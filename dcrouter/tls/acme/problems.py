"""Problem documents as errors that an operator can read (RFC 7807; RFC 8555 sections 6.7 and 6.7.1)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from dcrouter.errors import AcmeError, NameProblem
from dcrouter.tls.acme.answers import Answer

_URN = "urn:ietf:params:acme:error:"
_LONGEST_DETAIL = 600
_MOST_NAMES = 100


def problem_of(answer: Answer) -> AcmeError:
    """What a refusal says."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not ("type" in document or "detail" in document):
        text = f"{_host(answer.url)} answered {_path(answer.url)} with {answer.status}"
        return AcmeError(_later(text, answer), status=answer.status, retry_after=answer.retry_after)
    kind, detail = type_of(document), detail_of(document)
    names = names_of(document)
    text = f"{_host(answer.url)} refuses: {sentence(kind, detail)}"
    text += "".join(f"; {name.name}: {sentence(name.type, name.detail)}" for name in names)
    instance = document.get("instance")
    if kind == "userActionRequired" and isinstance(instance, str):
        text += f" (see {plain(instance)})"
    return AcmeError(
        _later(text, answer),
        type=kind,
        detail=detail,
        names=names,
        retry_after=answer.retry_after,
        status=answer.status,
    )


def of_name(name: str, document: dict[str, Any]) -> NameProblem:
    """What the `error` of a challenge, an authorization or an order says of one name."""
    return NameProblem(name, type_of(document), detail_of(document))


def names_of(document: dict[str, Any]) -> tuple[NameProblem, ...]:
    """Those that have a name, of its subproblems."""
    found = []
    subproblems = document.get("subproblems")
    for one in subproblems[:_MOST_NAMES] if isinstance(subproblems, list) else ():
        identifier = one.get("identifier") if isinstance(one, dict) else None
        if isinstance(identifier, dict) and isinstance(identifier.get("value"), str):
            found.append(of_name(plain(identifier["value"]), one))
    return tuple(found)


def type_of(document: dict[str, Any]) -> str | None:
    """Without the beginning that all of RFC 8555's have in common."""
    kind = document.get("type")
    return plain(kind).removeprefix(_URN) if isinstance(kind, str) else None


def detail_of(document: dict[str, Any]) -> str:
    detail = document.get("detail")
    return plain(detail) if isinstance(detail, str) else ""


def sentence(kind: str | None, detail: str) -> str:
    """`detail (type)`, or what of it there is."""
    if detail and kind:
        return f"{detail} ({kind})"
    return detail or kind or "no reason given"


def plain(text: str) -> str:
    """One line of bounded length, whatever a CA writes."""
    return "".join(each if each.isprintable() else " " for each in text[:_LONGEST_DETAIL]).strip()


def _later(text: str, answer: Answer) -> str:
    return text if answer.retry_after is None else f"{text}; not again for {answer.retry_after:.0f} s"


def _host(url: str) -> str:
    return urlsplit(url).netloc or url


def _path(url: str) -> str:
    return urlsplit(url).path or "/"
