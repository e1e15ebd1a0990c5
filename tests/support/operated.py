"""A service that can be told what to do, and does nothing: for the API and the command line in front of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from dcrouter.config.admin import Config
from dcrouter.errors import Unreachable

OUTCOME = {
    "at": 1.0,
    "seconds": 0.5,
    "problems": [],
    "warnings": ["routes.yaml:3:1: hardly meant"],
    "changes": "routes: 1 added",
    "ok": True,
}


def connection(session: str, **fields: Any) -> dict[str, Any]:
    """One as the service lists it."""
    shown = {
        "session": session,
        "route": "web",
        "peer": ["192.0.2.7", 4711],
        "local": ["192.0.2.1", 443],
        "sni": "www.example.test",
        "target": "10.0.0.1:80",
        "age": 61.0,
        "bytes_in": 512,
        "bytes_out": 4096,
        "phase": "relay",
    }
    return {**shown, **fields}


class Answering:
    """Who the API asks: it is ready, and has no routes and no mail."""

    def __init__(self, *problems: str) -> None:
        self.operations = Operated(*problems)
        self.config = Config(state_dir=Path("/s"))

    def status(self) -> Deferred[dict[str, Any]]:
        return succeed({"state": "ready"})

    def ask_mail(self, kind: str, fields: dict[str, Any]) -> Deferred[dict[str, Any]]:
        return succeed({})


class Operated:
    """`did`: what it was told. `problems`: what is wrong with its configuration."""

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        self.did: list[tuple[Any, ...]] = []
        self.certs = OperatedCerts(self.did)

    def reload(self) -> Deferred[dict[str, Any]]:
        self.did.append(("reload",))
        if self.problems:
            error = {"error": "\n".join(self.problems), "status": 409}
            return succeed({**OUTCOME, "problems": self.problems, "ok": False, **error})
        return succeed(dict(OUTCOME))

    def drain(self) -> dict[str, Any]:
        self.did.append(("drain",))
        return {"state": "draining", "timeout": 30.0}

    def log_level(self, level: object) -> dict[str, Any]:
        self.did.append(("log_level", level))
        return {"level": level} if level != "loud" else {"error": "log level: one of debug, info", "status": 400}

    def connections(self, role: str, after: str | None) -> Deferred[dict[str, Any]]:
        self.did.append(("connections", role, after))
        if role != "edge":
            return succeed({"error": "there is no mail process", "status": 404})
        if after is None:
            return succeed({"connections": [connection("a-1")], "next": "a-1"})
        return succeed({"connections": [connection("a-2", age=2.0, peer=["2001:db8::7", 1], sni=None)], "next": None})

    def kill(self, session: str) -> Deferred[dict[str, Any]]:
        self.did.append(("kill", session))
        if session == "far":
            return fail(Unreachable("the edge process did not answer within 2 s"))
        if session == "gone":
            return succeed({"error": "there is no connection gone", "status": 404})
        return succeed({"killed": 1})

    def decide(self, fields: dict[str, Any]) -> Deferred[dict[str, Any]]:
        self.did.append(("decide", fields))
        return succeed({"route": "page", "status": None})


def certificate(*names: str, **fields: Any) -> dict[str, Any]:
    """One as the service lists it."""
    shown = {
        "names": list(names),
        "source": "acme",
        "issuer": "E7",
        "key": "ecdsa-p256",
        "not_after": 1.8e9 + 90 * 86400,
        "next_renewal": None,
        "last_error": None,
        "back_off_until": None,
        "file": None,
    }
    return {**shown, **fields}


CERTIFICATES = [
    certificate("a.test", "b.test", "c.test"),
    certificate("mail.test", source="file", file="/etc/mail.pem"),
    certificate(
        "\x1b[31m.test",
        issuer=None,
        key=None,
        not_after=None,
        back_off_until=1.8e9 + 3600,
        last_error="the authority says: too many",
    ),
]
_RECORD = {"name": "_25._tcp.mail.test.", "type": "TLSA"}
RECORDS: list[dict[str, Any]] = [
    {**_RECORD, "value": "3 1 1 aa", "use": "now"},
    {**_RECORD, "value": "3 1 1 bb", "use": "next", "published": None, "ripe": None},
    {**_RECORD, "value": "3 1 1 cc", "use": "next", "published": 1.8e9, "ripe": 1.8e9 + 3600},
    {**_RECORD, "value": "3 1 1 dd", "use": "next", "published": 1.8e9, "ripe": 1.8e9 - 1},
]


NOW = 1.8e9


class OperatedCerts:
    """`did`: what it was told."""

    def __init__(self, did: list[tuple[Any, ...]]) -> None:
        self.did = did
        self.steps: dict[str, int] = {}

    def list(self) -> dict[str, Any]:
        return {"certificates": CERTIFICATES}

    def renew(self, name: str) -> Deferred[dict[str, Any]]:
        self.did.append(("renew", name))
        if name == "gone":
            return succeed({"error": f"there is no certificate for {name}", "status": 404})
        return succeed({"renewed": [name]} if name.startswith("inside") else {"ordered": [name]})

    def revoke(self, name: str) -> Deferred[dict[str, Any]]:
        self.did.append(("revoke", name))
        return succeed({"revoked": [name], "ordered": [name]})

    def change_account_keys(self) -> Deferred[dict[str, Any]]:
        """A second time one of two refuses."""
        self.did.append(("account-keys",))
        if self.did.count(("account-keys",)) == 1:
            return succeed({"changed": ["ca.test"]})
        return succeed({"changed": ["ca.test"], "error": "other.test: not today", "status": 409})

    def order(self, name: str) -> dict[str, Any]:
        """Another step at each question, then the outcome; of `stuck...` there is none, `bad...` fails."""
        self.steps[name] = min(self.steps.get(name, 0) + 1, 3)
        done = self.steps[name] == 3 and not name.startswith("stuck")
        state = "running" if not done else "failed" if name.startswith("bad") else "issued"
        problem = "ca.test refuses: not that one (rejectedIdentifier)" if state == "failed" else ""
        steps = ["ca.test is asked", "proved", "signed"][: self.steps[name]]
        not_after = NOW if state == "issued" else None
        return {"state": state, "steps": steps, "problem": problem, "not_after": not_after}

    def records(self) -> dict[str, Any]:
        return {"records": RECORDS}
