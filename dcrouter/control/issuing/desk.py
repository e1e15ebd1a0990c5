"""Automatic certificates as the operator sees them, and what can be done with them: `dcrouter certs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred, succeed

from dcrouter.control.issuing.directories import word_of
from dcrouter.control.issuing.issuing import Issuing
from dcrouter.errors import AcmeError, TlsError
from dcrouter.tls.listed import Listed, listed
from dcrouter.tls.names import wildcard_of
from dcrouter.wire.moments import utc

WITHIN = 40.0
"""Seconds for an authority to revoke a certificate."""
CONFLICT = 409

Answer = dict[str, Any]


class Desk:
    """Of one Issuing."""

    def __init__(self, issuing: Issuing, reactor: Any) -> None:
        self._issuing = issuing
        self._reactor = reactor

    def listed(self, only: str | None = None) -> Iterator[Listed]:
        """What is wanted, then what is only held, by name; nothing without `certificates.acme`: it is not used then.
        `only`: what is for that name.
        """
        issuing = self._issuing
        if issuing.acme is None:
            return
        serving = {one.id for one in issuing.credentials()}
        wanted = issuing.names if only is None else {only} & set(issuing.names)
        for name in sorted(wanted):
            record, held = issuing.kept.records.get(name), issuing.kept.credentials.get(name)
            error = (record.error or None) if record is not None else None
            rest, due = issuing.directories.rest_until(), issuing.due(name)
            until = max(record.until if record is not None and record.failures else 0.0, rest)
            if held is None:
                if due != float("inf"):  # else a wildcard serves it
                    yield Listed(names=(name,), source="acme", last_error=error, back_off_until=until or None)
            elif held.id in serving:
                renewal = record.renew if record is not None and record.renew else None
                yield listed(held, next_renewal=renewal, last_error=error, back_off_until=until or None)
        for name in sorted(set(issuing.kept.credentials) - set(issuing.names)):
            if only in (None, name) and issuing.kept.credentials[name].id in serving:
                yield listed(issuing.kept.credentials[name])

    def renew(self, name: str) -> Deferred[Answer]:
        """Orders it now, whatever it waited for, unless no authority may be asked: then as soon as one may. `order`
        tells what comes of it.
        """
        name = name.lower()
        if name not in self._issuing.names:
            return succeed(_refused(f"{name}: no route wants it any more, nor does mail"))
        if self._issuing.due(name) == float("inf"):
            return succeed(_refused(f"{name}: the certificate of {wildcard_of(name)} serves it"))
        self._issuing.renew_now(name)
        rest = self._issuing.directories.rest_until()
        if rest:
            return succeed(_refused(f"{name}: ordered at {utc(rest)}: {self._issuing.directories.rests_because()}"))
        return succeed({"ordered": [name]})

    def order(self, name: str) -> Answer | None:
        """How far the order is that was asked for; None: there is none."""
        found = self._issuing.followed.get(name.lower())
        if found is None:
            return None
        rest, problem = self._issuing.directories.rest_until(), ""
        if name.lower() not in self._issuing.names:
            problem = "no route wants it any more, nor does mail"
        elif rest:
            problem = f"ordered at {utc(rest)}: {self._issuing.directories.rests_because()}"
        if found.state == "waiting" and problem:
            return found.to_plain() | {"state": "failed", "problem": problem}
        return found.to_plain()

    def revoke(self, name: str) -> Deferred[Answer]:
        """By the authority that has issued it; another one is ordered at once."""
        asked: Deferred[Answer] = Deferred.fromCoroutine(self._revoke(name.lower()))
        return asked.addTimeout(
            WITHIN, self._reactor, lambda *_: _refused(f"{name}: not revoked: no answer within {WITHIN:g} s")
        )

    async def _revoke(self, name: str) -> Answer:
        issuing = self._issuing
        held, record = issuing.kept.credentials.get(name), issuing.kept.records.get(name)
        if held is None:
            return _refused(f"{name}: there is no certificate of an authority yet")
        url = (record.directory if record is not None else "") or next(iter(issuing.directories.urls), "")
        if url not in issuing.directories.urls:
            return _refused(f"{name}: {word_of(url)}, which has issued it, is not among the directories any more")
        try:
            await issuing.directories.authority(url).revoke(held.certificates()[0])
        except (AcmeError, TlsError, OSError) as error:
            return _refused(f"{name}: not revoked: {error}")
        issuing.log.warn("{name}: its certificate is revoked, another one is ordered", name=name)
        if name in issuing.names:
            issuing.renew_now(name)
            return {"revoked": [name], "ordered": [name]}
        issuing.forget(name)
        return {"revoked": [name], "ordered": []}

    def change_account_keys(self) -> Deferred[Answer]:
        """Gives our account with each authority another key; what was known of the old one is worth nothing then."""
        if self._issuing.running:
            return succeed(_refused("orders are under way, whose proofs are of the account's key: try again later"))
        asked: Deferred[Answer] = Deferred.fromCoroutine(self._change_account_keys())
        return asked.addTimeout(
            WITHIN, self._reactor, lambda *_: _refused(f"no answer within {WITHIN:g} s: ask for it again")
        )

    async def _change_account_keys(self) -> Answer:
        done, problems = await self._issuing.directories.change_keys()
        for word in done:
            self._issuing.log.warn("our account with {directory} has another key", directory=word)
        if problems:
            told = "; ".join(f"{word}: {problem}" for word, problem in problems.items())
            return {"changed": done, **_refused(told)}
        return {"changed": done}


def _refused(why: str) -> Answer:
    return {"error": why, "status": CONFLICT}
