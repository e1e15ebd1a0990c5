"""The proof of one name (RFC 8555 section 7.5).

1. A name that is proved already needs nothing.
2. Of the challenges that the CA offers, those of our solvers are tried in the solvers' order until one could present;
   only then the CA is told to look, for one that it has looked at in vain is the end of the authorization.
3. Its state is asked until it is settled, as often as Retry-After says, else at doubling pauses.
4. The solver cleans up whatever happened, also when all this is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.errors import AcmeError, NameProblem
from dcrouter.net.waits import finish, within
from dcrouter.tls.acme.account import Account
from dcrouter.tls.acme.answers import Fields
from dcrouter.tls.acme.challenges import Solver
from dcrouter.tls.acme.polling import poll
from dcrouter.tls.acme.problems import of_name, plain
from dcrouter.tls.acme.waiting import Patience

_log = Logger()


class NotProved(AcmeError):
    """The name of an authorization; `names` holds it, and why."""

    def __init__(self, problem: NameProblem) -> None:
        super().__init__(f"{problem.name}: {problem.detail}", type=problem.type, detail=problem.detail, names=[problem])


class Prover:
    """Proves the names of one order."""

    def __init__(
        self,
        reactor: Any,
        account: Account,
        solvers: Mapping[str, Solver],
        patience: Patience,
        told: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._account = account
        self._solvers = solvers
        self._patience = patience
        self._told = told

    async def prove(self, url: str) -> None:
        """The authorization at `url` is valid when this returns. NotProved where it will not be; AcmeError."""
        fields = (await self._account.post(url, None)).fields()
        name = plain(fields.object("identifier").text("value"))
        if fields.text("status") == "valid":
            self._told(f"{name} is proved already")
            return
        if fields.text("status") != "pending":
            raise NotProved(_reason(name, fields))
        offered = {one.text("type"): one for one in fields.objects("challenges") if "token" in one}
        kinds = [kind for kind in self._solvers if kind in offered]
        if not kinds:
            raise NotProved(
                NameProblem(
                    name,
                    None,
                    f"the CA offers {', '.join(map(plain, offered)) or 'no challenge'},"
                    f" and here is {', '.join(self._solvers) or 'none'}",
                )
            )
        reasons = []
        for kind in kinds:
            token = offered[kind].text("token")
            reason = await self._by(kind, name, token, url, offered[kind].url("url"))
            if reason is None:
                return
            reasons.append(f"{kind}: {reason}")
        raise NotProved(NameProblem(name, None, "; ".join(reasons)))

    async def _by(self, kind: str, name: str, token: str, url: str, challenge: str) -> str | None:
        """None: proved. Else why nothing could be presented; the CA knows nothing of it."""
        solver = self._solvers[kind]
        what = (name, token, self._account.signer.key_authorization(token))
        try:
            try:
                await within(self._reactor, self._patience.solver, solver.present(*what))
            except TimeoutError:
                return f"not presented within {self._patience.solver:g} s"
            except CancelledError:
                raise
            except Exception as error:
                return str(error) or type(error).__name__
            self._told(f"{name}: the CA is asked to look ({kind})")
            await self._account.post(challenge, {})
            await self._settled(kind, name, url)
        finally:
            await self._clean(solver, *what)
        return None

    async def _settled(self, kind: str, name: str, url: str) -> None:
        fields = await poll(
            self._reactor,
            self._account,
            url,
            lambda fields: fields.text("status") not in ("pending", "processing"),
            self._patience.validation,
            self._patience,
        )
        if fields is None:
            raise NotProved(
                NameProblem(name, None, f"{kind}: the CA has not looked within {self._patience.validation:g} s")
            )
        if fields.text("status") != "valid":
            raise NotProved(_reason(name, fields))
        self._told(f"{name} is proved ({kind})")

    async def _clean(self, solver: Solver, name: str, token: str, key_authorization: str) -> None:
        """To its end, whoever cancels. What goes wrong is logged, and hides nothing that went wrong before."""

        def failed(failure: Failure) -> None:
            cause = failure.getErrorMessage() or type(failure.value).__name__
            _log.warn("{name}: what was shown to the CA could not be removed: {cause}", name=name, cause=cause)

        work = within(self._reactor, self._patience.solver, solver.cleanup(name, token, key_authorization))
        await finish(Deferred.fromCoroutine(work).addErrback(failed))


def _reason(name: str, fields: Fields) -> NameProblem:
    """Of an authorization that has failed: what its challenges say."""
    for challenge in fields.objects("challenges"):
        error = challenge.object("error").plain()
        if error:
            return of_name(name, error)
    return NameProblem(name, None, f"its authorization is {plain(fields.text('status'))}")
