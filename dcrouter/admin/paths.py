"""What the HTTP API on the unix socket answers, for the command line and for scripts (`curl --unix-socket`).

    GET /status              what the service does: version, state, children with their counters, listeners, lost lines
    POST /explain            which route a connection gets, and why no other: {"port": 443, "sni": ..., "path": ...}
    POST /reload             read the configuration again: what has changed, or all that is wrong with it (409)
    POST /drain              stop, as SIGTERM does
    POST /log-level          {"level": "debug"}, until the next reload
    GET /connections         those of a process (?role=edge or mail), the oldest first, and where the next page begins;
                             ?after=
    DELETE /connections/ID   end that one
    GET /bans                addresses that are banned for wrong passwords, and where the next page begins; ?after=
    DELETE /bans/ADDRESS     lift that ban; without an address all of them
    GET /suppression         addresses to which nothing is sent, and where the next page begins; ?after=
    POST /suppression        {"address": ..., "seconds": for how long, without: for ever}
    DELETE /suppression/ADDRESS    something may be sent there again
    GET /certificates        those that are in use or wanted: names, issuer, key, when they end and are renewed, errors
    POST /certificates/renew {"name": ...}: have it made anew now; also revoke. Those in `ordered` are under way:
    GET /certificates/order  ?name=: how far that is: state (waiting, running, issued, failed), steps, problem
    POST /certificates/account-keys  give our accounts with authorities other keys; `changed`: with whom that is done
    GET /dns                 the DNS records that there should be of them (TLSA)
    GET /queue               the messages that wait or have failed, one object per recipient, and where the next page
                             begins; ?rule= &state= &sender= &recipient= &older=1h &limit= &after=
    GET /queue/stats         how many there are, by state, rule and domain; ?top=
    GET /queue/ages          the same by domain and by how long ago they came; ?top=
    GET /queue/ID            one message: envelope, recipients with their last replies, header
    DELETE /queue/ID         drop that message
    GET /queue/pauses        what stands still, is slowed down, fails or is not used, with reason and end
    POST /queue/pause        {"what": "zone premium", "seconds": 3600, "reason": ...}; also resume: {"what": ...}, or
                             {"all": true}
    POST /queue/retry        also hold, release, drop, reroute ("to": a rule), bounce ("reply": to senders):
                             {"messages": [ID ...]}, or filters as above, or {"all": true}; answers how many were
                             changed, and where the next request begins (`after`)
    GET /delivery            how mail would leave now; ?recipient= &sender= &zone= &message=

Answers are JSON. An error is `{"error": "..."}` with 400, 404, 405, 409, or 503 where a process does not answer.
Whoever may open the socket may do all of it: it is 0600 in a directory that is 0700.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from dcrouter.admin.answer import Answer, Give, body_of, name_of, query
from dcrouter.admin.explain import explained_live
from dcrouter.config.admin import Config

_CHANGES = ("retry", "hold", "release", "drop", "reroute", "bounce", "pause", "resume")
"""What is done to the queue by POST."""


class Certs(Protocol):
    """What can be asked about certificates, and done with them."""

    def list(self) -> dict[str, Any]: ...
    def renew(self, name: str) -> Deferred[dict[str, Any]]: ...
    def revoke(self, name: str) -> Deferred[dict[str, Any]]: ...
    def order(self, name: str) -> dict[str, Any]: ...
    def change_account_keys(self) -> Deferred[dict[str, Any]]: ...
    def records(self) -> dict[str, Any]: ...


class Operations(Protocol):
    """What can be done to the service."""

    @property
    def certs(self) -> Certs: ...
    def reload(self) -> Deferred[dict[str, Any]]: ...
    def drain(self) -> dict[str, Any]: ...
    def log_level(self, level: object) -> dict[str, Any]: ...
    def connections(self, role: str, after: str | None) -> Deferred[dict[str, Any]]: ...
    def kill(self, session: str) -> Deferred[dict[str, Any]]: ...
    def decide(self, fields: dict[str, Any]) -> Deferred[dict[str, Any]]: ...


class Answers(Protocol):
    """Who knows the answers: the parent."""

    @property
    def operations(self) -> Operations: ...
    @property
    def config(self) -> Config: ...
    def status(self) -> Deferred[dict[str, Any]]: ...
    def ask_mail(self, kind: str, fields: dict[str, Any]) -> Deferred[dict[str, Any]]: ...


def root(answers: Answers) -> Answer:
    operations = answers.operations
    return Answer(
        {},
        {
            b"status": Answer({b"GET": lambda request: answers.status()}),
            b"explain": Answer(
                {b"POST": lambda request: explained_live(answers.config, body_of(request), operations.decide)}
            ),
            b"reload": Answer({b"POST": lambda request: operations.reload()}),
            b"drain": Answer({b"POST": lambda request: operations.drain()}),
            b"log-level": Answer({b"POST": lambda request: operations.log_level(body_of(request).get("level"))}),
            b"connections": _connections(operations),
            b"certificates": _certificates(operations.certs),
            b"dns": Answer({b"GET": lambda request: operations.certs.records()}),
            b"queue": _queue(answers),
            b"delivery": Answer({b"GET": _asking(answers, "queue", "delivery")}),
            b"bans": _bans(answers),
            b"suppression": _suppression(answers),
        }.get,
    )


def _connections(operations: Operations) -> Answer:
    def listed(request: Request) -> Deferred[dict[str, Any]]:
        asked = query(request)
        return operations.connections(str(asked.get("role", "edge")), asked.get("after"))

    return Answer({b"GET": listed}, lambda name: Answer({b"DELETE": lambda request: operations.kill(_text(name))}))


def _certificates(certs: Certs) -> Answer:
    below = {
        b"renew": Answer({b"POST": lambda request: certs.renew(name_of(request))}),
        b"revoke": Answer({b"POST": lambda request: certs.revoke(name_of(request))}),
        b"account-keys": Answer({b"POST": lambda request: certs.change_account_keys()}),
        b"order": Answer({b"GET": lambda request: certs.order(str(query(request).get("name", "")))}),
    }
    return Answer({b"GET": lambda request: certs.list()}, below.get)


def _queue(answers: Answers) -> Answer:
    paths = {do.encode(): Answer({b"POST": _telling(answers, "queue", do)}) for do in _CHANGES}
    paths |= {do.encode(): Answer({b"GET": _asking(answers, "queue", do)}) for do in ("pauses", "stats", "ages")}

    def one(name: bytes) -> Answer:
        show = {"do": "show", "message": _text(name)}
        drop = {"do": "drop", "messages": [_text(name)]}
        return Answer(
            {
                b"GET": lambda request: answers.ask_mail("queue", show),
                b"DELETE": lambda request: answers.ask_mail("queue", drop),
            }
        )

    return Answer({b"GET": _asking(answers, "queue", "list")}, lambda name: paths.get(name) or one(name))


def _bans(answers: Answers) -> Answer:
    def one(name: bytes) -> Answer:
        return Answer({b"DELETE": lambda request: answers.ask_mail("bans", {"do": "lift", "address": _text(name)})})

    return Answer({b"GET": _asking(answers, "bans", "list"), b"DELETE": _asking(answers, "bans", "lift")}, one)


def _suppression(answers: Answers) -> Answer:
    def one(name: bytes) -> Answer:
        remove = {"do": "remove", "address": _text(name)}
        return Answer({b"DELETE": lambda request: answers.ask_mail("suppression", remove)})

    said = {b"GET": _asking(answers, "suppression", "list"), b"POST": _telling(answers, "suppression", "add")}
    return Answer(said, one)


def _asking(answers: Answers, kind: str, do: str) -> Give:
    """Ask the mail process, with what stands behind the question mark."""
    return lambda request: answers.ask_mail(kind, {**query(request), "do": do})


def _telling(answers: Answers, kind: str, do: str) -> Give:
    """The same with the body."""
    return lambda request: answers.ask_mail(kind, {**body_of(request), "do": do})


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
