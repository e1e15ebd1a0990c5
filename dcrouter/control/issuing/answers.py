"""What an authority is shown by the edge: solvers of tls-alpn-01 and http-01.

A proof is there when the edge has said that it shows it; an edge that begins anew gets all of them with its greeting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dcrouter.errors import Unreachable
from dcrouter.tls.acme.challenges import Solver, tls_alpn_certificate

HTTP_PORT, TLS_PORT = 80, 443
"""Where authorities look for http-01 and tls-alpn-01 (RFC 8555 section 8.3, RFC 8737 section 3)."""

Fields = dict[str, Any]


class Answers:
    """All that is shown now. `show` gives all of it to the edge, and is done when that shows it; Unreachable."""

    def __init__(self, show: Callable[[Fields], Awaitable[Any]]) -> None:
        self._show = show
        self._http: dict[str, str] = {}
        self._tls: dict[str, tuple[str, str]] = {}

    def fields(self) -> Fields:
        """All of it, for the edge: see proxy/challenges.py."""
        return {"http": dict(self._http), "tls": dict(self._tls)}

    def __bool__(self) -> bool:
        return bool(self._http or self._tls)

    async def show_token(self, token: str, key_authorization: str) -> None:
        self._http[token] = key_authorization
        await self._show(self.fields())

    async def hide_token(self, token: str) -> None:
        if self._http.pop(token, None) is not None:
            await self._hidden()

    async def show_certificate(self, name: str, key_authorization: str) -> None:
        certificate, key = tls_alpn_certificate(name, key_authorization)
        self._tls[name] = (certificate.decode(), key.decode())
        await self._show(self.fields())

    async def hide_certificate(self, name: str) -> None:
        if self._tls.pop(name, None) is not None:
            await self._hidden()

    async def _hidden(self) -> None:
        try:
            await self._show(self.fields())
        except Unreachable:
            return  # an edge that is not there shows nothing


class Noted:
    """A solver of whose proofs `note` hears when they are there."""

    def __init__(self, solver: Solver, note: Callable[[], None]) -> None:
        self._solver = solver
        self._note = note

    async def present(self, name: str, token: str, key_authorization: str) -> None:
        await self._solver.present(name, token, key_authorization)
        self._note()

    async def cleanup(self, name: str, token: str, key_authorization: str) -> None:
        await self._solver.cleanup(name, token, key_authorization)


class HttpSolver:
    """`problem` says why the port is not served, None: it is."""

    def __init__(self, answers: Answers, problem: Callable[[], str | None]) -> None:
        self._answers = answers
        self._problem = problem

    async def present(self, name: str, token: str, key_authorization: str) -> None:
        problem = self._problem()
        if problem is not None:
            raise Unreachable(problem)
        await self._answers.show_token(token, key_authorization)

    async def cleanup(self, name: str, token: str, key_authorization: str) -> None:
        await self._answers.hide_token(token)


class TlsSolver:
    """The same for tls-alpn-01; `problem`: of a name."""

    def __init__(self, answers: Answers, problem: Callable[[str], str | None]) -> None:
        self._answers = answers
        self._problem = problem

    async def present(self, name: str, token: str, key_authorization: str) -> None:
        problem = self._problem(name)
        if problem is not None:
            raise Unreachable(problem)
        await self._answers.show_certificate(name, key_authorization)

    async def cleanup(self, name: str, token: str, key_authorization: str) -> None:
        await self._answers.hide_certificate(name)
