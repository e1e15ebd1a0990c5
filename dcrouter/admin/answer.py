"""One path of the API: what it gives for each method of HTTP, in JSON, errors too; and what a request says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import BAD_REQUEST, NOT_ALLOWED, NOT_FOUND, OK, SERVICE_UNAVAILABLE
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from dcrouter.admin.explain import Mistaken
from dcrouter.errors import DcrouterError

LONGEST_BODY = 1024 * 1024
"""Octets of a request's body."""

Give = Callable[[Request], Deferred[dict[str, Any]] | dict[str, Any]]
"""The answer to a request. One with `error` has a `status` beside it."""


class Answer(Resource):
    """`methods`: what each gives there. `below`: what lies below it, by name."""

    log = Logger()

    def __init__(
        self,
        methods: dict[bytes, Give],
        below: Callable[[bytes], Answer | None] = lambda name: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.methods = methods
        self.below = below

    def getChild(self, path: bytes, request: Request) -> Answer:
        return self.below(path) or Answer({})

    def render(self, request: Request) -> bytes | int:
        method = self.methods.get(request.method)
        if method is None:
            _finish(request, NOT_ALLOWED if self.methods else NOT_FOUND, {"error": "there is nothing like that here"})
            return NOT_DONE_YET
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)

        def give(answer: dict[str, Any]) -> None:
            if not gone:
                code = answer.pop("status", SERVICE_UNAVAILABLE) if "error" in answer else OK
                _finish(request, code, answer)

        def refuse(failure: Failure) -> None:
            if failure.check(DcrouterError) is None:
                path = request.path.decode("ascii", "replace")
                self.log.failure("the API cannot answer {path}", failure, path=path)
            if not gone:
                code = BAD_REQUEST if failure.check(Mistaken) else SERVICE_UNAVAILABLE
                _finish(request, code, {"error": failure.getErrorMessage()})

        maybeDeferred(method, request).addCallbacks(give, refuse)
        return NOT_DONE_YET


def query(request: Request) -> dict[str, Any]:
    """What stands behind the question mark; numbers as such."""
    fields: dict[str, Any] = {}
    for name, values in (request.args or {}).items():
        text = values[-1].decode("utf-8", "replace")
        known = name.decode("utf-8", "replace")
        fields[known] = int(text) if known in ("limit", "top") and text.isascii() and text.isdecimal() else text
    return fields


def body_of(request: Request) -> dict[str, Any]:
    """The JSON object of a request's body."""
    assert request.content is not None
    text = request.content.read(LONGEST_BODY + 1)
    try:
        body = json.loads(text) if len(text) <= LONGEST_BODY else None
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Mistaken(f"the body is no JSON object of at most {LONGEST_BODY} bytes")
    return body


def name_of(request: Request) -> str:
    """The one in a request's body."""
    name = body_of(request).get("name")
    if not isinstance(name, str):
        raise Mistaken("the body has no `name`")
    return name


def _finish(request: Request, code: int, answer: dict[str, Any]) -> None:
    request.setResponseCode(code)
    request.setHeader(b"content-type", b"application/json")
    request.write(json.dumps(answer, indent=1).encode() + b"\n")
    request.finish()
