"""The HTTP API on the unix socket `admin.socket`, for the command line and for scripts (`curl --unix-socket`).

    GET /status              what the service does: version, state, children with their counters, listeners, lost lines
    POST /explain            which route a connection gets, and why no other: {"port": 443, "sni": ..., "path": ...}
    POST /reload             read the configuration again: what has changed, or all that is wrong with it (409)
    POST /drain              stop, as SIGTERM does
    POST /log-level          {"level": "debug"}, until the next reload
    GET /connections         those of a process (?role=edge or mail), the oldest first, and where the next page begins;
                             ?after=
    DELETE /connections/ID   end that one
    GET /bans                addresses that are banned for wrong passwords, and where the next page begins; ?after=
    GET /suppression         addresses to which nothing is sent, and where the next page begins; ?after=
    POST /suppression        {"address": ..., "seconds": for how long, without: for ever}
    DELETE /suppression/ADDRESS    something may be sent there again
    DELETE /bans/ADDRESS     lift that ban; without an address all of them
    GET /certificates        those that are in use or wanted: names, issuer, key, when they end and are renewed, errors
    POST /certificates/renew {"name": ...}: have it made anew now; also revoke. Those in `ordered` are under way:
    POST /certificates/account-keys  give our accounts with authorities other keys; `changed`: with whom that is done
    GET /certificates/order  ?name=: how far that is: state (waiting, running, issued, failed), steps, problem
    GET /dns                 the DNS records that there should be of them (TLSA)
    GET /queue               the messages that wait or have failed, one object per recipient, and where the next page
                             begins; ?rule= &state= &sender= &recipient= &older=1h &limit= &after=
    GET /queue/stats         how many there are, by state, rule and domain; ?top=
    GET /queue/ID            one message: envelope, recipients with their last replies, header
    DELETE /queue/ID         drop that message
    GET /delivery            how mail would leave now; ?recipient= &sender= &zone= &message=
    GET /queue/pauses        what stands still, is slowed down, fails or is not used, with reason and end
    POST /queue/pause        {"what": "zone premium", "seconds": 3600, "reason": ...}; also resume: {"what": ...}, or
                             {"all": true}
    POST /queue/retry        also hold, release, drop: {"messages": [ID ...]}, or filters as above, or {"all": true};
                             answers how many were changed, and where the next request begins (`after`)

Answers are JSON. An error is `{"error": "..."}` with 400, 404, 405, 409, or 503 where a process does not answer.
Whoever may open the socket may do all of it: it is 0600 in a directory that is 0700.
"""

from __future__ import annotations

import errno
import json
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorUNIX
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import BAD_REQUEST, NOT_ALLOWED, NOT_FOUND, OK, SERVICE_UNAVAILABLE
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from dcrouter.admin.explain import Mistaken, explained_live
from dcrouter.config.admin import Config
from dcrouter.errors import DcrouterError, StartError

MODE = 0o600
LONGEST_PATH = 107
"""Bytes of a unix socket's path (unix(7))."""
LONGEST_BODY = 1024 * 1024
"""Octets of a request's body."""
IDLE = 30
"""Seconds after which a silent client is closed."""


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


class Api(Service):
    """Listens on `path`, which it makes and removes."""

    def __init__(self, reactor: IReactorUNIX, path: Path, answers: Answers) -> None:
        self.reactor = reactor
        self.path = path
        self.answers = answers
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """Begin to listen; StartError with one line where that is impossible."""
        if len(bytes(self.path)) > LONGEST_PATH:
            raise StartError(f"admin.socket: {self.path} is longer than {LONGEST_PATH} bytes; set a shorter path")
        _remove_stale(self.path)
        site = QuietSite(_root(self.answers), timeout=IDLE)  # type: ignore[no-untyped-call]
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._port = self.reactor.listenUNIX(str(self.path), site, mode=MODE)  # type: ignore[arg-type]
        except CannotListenError as error:
            site.doStop()  # type: ignore[no-untyped-call]  # begun before the socket was tried
            raise StartError(f"admin.socket: cannot listen on {self.path}: {error.socketError.strerror}") from error
        except OSError as error:
            raise StartError(f"admin.socket: cannot listen on {self.path}: {error.strerror}") from error
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[Any]:
        """Listen no more, and remove the socket."""
        super().stopService()  # type: ignore[no-untyped-call]
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else maybeDeferred(lambda: None)


class QuietSite(Site):
    """Asking is no outcome that a log should tell of."""

    def log(self, request: object) -> None:
        """Say nothing."""


Give = Callable[[Request], Deferred[dict[str, Any]] | dict[str, Any]]
"""The answer to a request. One with `error` has a `status` beside it."""


class Answer(Resource):
    """One path: what each method of HTTP gives there, and what lies below it. Errors are JSON too."""

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
                code = BAD_REQUEST if failure.check(_Mistaken, Mistaken) else SERVICE_UNAVAILABLE
                _finish(request, code, {"error": failure.getErrorMessage()})

        maybeDeferred(method, request).addCallbacks(give, refuse)
        return NOT_DONE_YET


def _root(answers: Answers) -> Answer:
    def ask(**fields: Any) -> Deferred[dict[str, Any]]:
        return answers.ask_mail("queue", fields)

    def listed(request: Request) -> Deferred[dict[str, Any]]:
        return ask(do="list", **_query(request))

    def stats(request: Request) -> Deferred[dict[str, Any]]:
        return ask(do="stats", **_query(request))

    def changing(do: str) -> Give:
        def change(request: Request) -> Deferred[dict[str, Any]]:
            return ask(**{**_body(request), "do": do})

        return change

    paths = {
        do.encode(): Answer({b"POST": changing(do)}) for do in ("retry", "hold", "release", "drop", "reroute", "bounce")
    }
    paths |= {do.encode(): Answer({b"POST": changing(do)}) for do in ("pause", "resume")}
    paths[b"pauses"] = Answer({b"GET": lambda request: ask(do="pauses")})
    paths[b"stats"] = Answer({b"GET": stats})
    paths[b"ages"] = Answer({b"GET": lambda request: ask(do="ages", **_query(request))})

    def below_queue(name: bytes) -> Answer:
        text = name.decode("utf-8", "replace")
        return paths.get(name) or Answer(
            {
                b"GET": lambda request: ask(do="show", message=text),
                b"DELETE": lambda request: ask(do="drop", messages=[text]),
            }
        )

    operations = answers.operations

    def connections(request: Request) -> Deferred[dict[str, Any]]:
        asked = _query(request)
        return operations.connections(str(asked.get("role", "edge")), asked.get("after"))

    def below_connections(name: bytes) -> Answer:
        return Answer({b"DELETE": lambda request: operations.kill(name.decode("utf-8", "replace"))})

    def bans(do: str, address: bytes | None = None) -> Give:
        def act(request: Request) -> Deferred[dict[str, Any]]:
            told = {"address": address.decode("utf-8", "replace")} if address is not None else _query(request)
            return answers.ask_mail("bans", {**told, "do": do})

        return act

    def below_bans(name: bytes) -> Answer:
        return Answer({b"DELETE": bans("lift", name)})

    def suppression(do: str, address: bytes | None = None) -> Give:
        def act(request: Request) -> Deferred[dict[str, Any]]:
            if address is not None:
                told = {"address": address.decode("utf-8", "replace")}
            else:
                told = _query(request) if do == "list" else _body(request)
            return answers.ask_mail("suppression", {**told, "do": do})

        return act

    def below_suppression(name: bytes) -> Answer:
        return Answer({b"DELETE": suppression("remove", name)})

    certs = operations.certs
    below_certificates = {
        b"renew": Answer({b"POST": lambda request: certs.renew(_name(request))}),
        b"revoke": Answer({b"POST": lambda request: certs.revoke(_name(request))}),
        b"account-keys": Answer({b"POST": lambda request: certs.change_account_keys()}),
        b"order": Answer({b"GET": lambda request: certs.order(str(_query(request).get("name", "")))}),
    }

    return Answer(
        {},
        {
            b"bans": Answer({b"GET": bans("list"), b"DELETE": bans("lift")}, below_bans),
            b"suppression": Answer({b"GET": suppression("list"), b"POST": suppression("add")}, below_suppression),
            b"certificates": Answer({b"GET": lambda request: certs.list()}, below_certificates.get),
            b"dns": Answer({b"GET": lambda request: certs.records()}),
            b"status": Answer({b"GET": lambda request: answers.status()}),
            b"queue": Answer({b"GET": listed}, below_queue),
            b"delivery": Answer({b"GET": lambda request: ask(do="delivery", **_query(request))}),
            b"explain": Answer(
                {b"POST": lambda request: explained_live(answers.config, _body(request), operations.decide)}
            ),
            b"reload": Answer({b"POST": lambda request: operations.reload()}),
            b"drain": Answer({b"POST": lambda request: operations.drain()}),
            b"log-level": Answer({b"POST": lambda request: operations.log_level(_body(request).get("level"))}),
            b"connections": Answer({b"GET": connections}, below_connections),
        }.get,
    )


class _Mistaken(DcrouterError):
    """A request that cannot be read."""


def _query(request: Request) -> dict[str, Any]:
    """What stands behind the question mark; numbers as such."""
    fields: dict[str, Any] = {}
    for name, values in (request.args or {}).items():
        text = values[-1].decode("utf-8", "replace")
        known = name.decode("utf-8", "replace")
        fields[known] = int(text) if known in ("limit", "top") and text.isascii() and text.isdecimal() else text
    fields.pop("do", None)
    return fields


def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request's body."""
    assert request.content is not None
    text = request.content.read(LONGEST_BODY + 1)
    try:
        body = json.loads(text) if len(text) <= LONGEST_BODY else None
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _Mistaken(f"the body is no JSON object of at most {LONGEST_BODY} bytes")
    return body


def _name(request: Request) -> str:
    """The one in a request's body."""
    name = _body(request).get("name")
    if not isinstance(name, str):
        raise _Mistaken("the body has no `name`")
    return name


def _finish(request: Request, code: int, answer: dict[str, Any]) -> None:
    request.setResponseCode(code)
    request.setHeader(b"content-type", b"application/json")
    request.write(json.dumps(answer, indent=1).encode() + b"\n")
    request.finish()


def _remove_stale(path: Path) -> None:
    """Remove the socket of an instance that was killed; StartError where somebody answers on it, or it is no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartError(f"admin.socket: {path} exists and is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(bytes(path))
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ECONNREFUSED:
            raise StartError(f"admin.socket: {path} cannot be used: {error.strerror or error}") from error
    else:
        raise StartError(f"admin.socket: another program answers on {path}")
    try:
        path.unlink()
    except OSError as error:
        raise StartError(f"admin.socket: {path} cannot be removed: {error.strerror}") from error
