"""A model of the order, written from the contract and from nothing else, and random tables to hold against it.

It compares every route with every request, by regular expressions made from the patterns; the product does neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any

from attrs import frozen
from hypothesis import strategies as st

PORT = 443
WEDNESDAY_NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC).timestamp()

Match = Mapping[str, Any]
"""What stands under `match` in the file."""


@frozen
class Request:
    """One request on a TLS connection whose SNI is its Host."""

    host: str
    path: str
    method: str
    headers: tuple[tuple[str, str], ...]
    client: str
    local: str
    alpn: tuple[str, ...]
    newest: str

    @property
    def octets(self) -> bytes:
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return f"{self.method} {self.path} HTTP/1.1\r\nHost: {self.host}\r\n{fields}\r\n".encode("latin-1")


def name_matches(pattern: str | None, name: str) -> bool:
    if pattern is None:
        return True
    if pattern.startswith("re:"):
        return re.fullmatch(pattern[3:], name) is not None
    made = re.escape(pattern).replace(r"\*\*\.", r"([^.]+\.)+").replace(r"\*\.", r"[^.]+\.")
    return re.fullmatch(made, name) is not None


def path_matches(pattern: str | None, path: str) -> bool:
    if pattern is None:
        return True
    made = re.escape(pattern)
    made = re.sub(r"/\\\*\\\*$", "(/.*)?", made)
    return re.fullmatch(made.replace(r"\*", "[^/]+"), path) is not None


def conditions_hold(match: Match, request: Request) -> bool:
    """All but names and paths, and what the hello tells of a request counts too."""
    given = {name: [value for found, value in request.headers if found == name] for name, _ in request.headers}
    time = match.get("time")
    return (
        request.local in match.get("listen", [request.local])
        and any(ip_address(request.client) in ip_network(one) for one in match.get("client_ips", ["0.0.0.0/0"]))
        and (not match.get("alpn") or bool(set(match["alpn"]) & set(request.alpn)))
        and request.newest in match.get("tls_versions", [request.newest])
        and request.method in match.get("methods", [request.method])
        and all(
            any(
                re.fullmatch(wanted[3:], one) if wanted.startswith("re:") else one == wanted
                for one in given.get(name, [])
            )
            for name, wanted in match.get("headers", {}).items()
        )
        and (time is None or "wed" in time["days"])
    )


def order(route: Mapping[str, Any], name: str | None, path: str | None) -> tuple[Any, ...]:
    """The contract's sentence, in its words; the place in the file is not in it."""
    match = route["match"]
    if name is None:
        exactness: tuple[int, ...] = (3,)
    elif name.startswith("re:"):
        exactness = (2,)
    elif name.startswith("*"):
        exactness = (1, -len(name.lstrip("*")), name.count("*"))
    else:
        exactness = (0,)
    length = (1,) if path is None else (0, -len(path.replace("*", "")), 2 if "**" in path else 1 if "*" in path else 0)
    words = ("listen", "alpn", "tls_versions", "client_ips", "methods", "time")
    conditions = sum(word in match for word in words) + len(match.get("headers", {}))
    return (-route.get("priority", 0), exactness, length, -conditions)


def winners(routes: Sequence[Mapping[str, Any]], request: Request) -> list[str]:
    """The names of those that fit and are equal in the order, in that of the file; the first of them is the answer."""
    fitting = [
        (order(route, name, path), at)
        for at, route in enumerate(routes)
        for name in route["match"].get("domains", [None])
        for path in route["match"].get("path", [None])
        if name_matches(name, request.host)
        and path_matches(path, request.path)
        and conditions_hold(route["match"], request)
    ]
    best = min((key for key, _ in fitting), default=None)
    return [routes[at]["name"] for at in sorted({at for key, at in fitting if key == best})]


def first_for_tls(routes: Sequence[Mapping[str, Any]], request: Request) -> str | None:
    """The first that a request of this connection might belong to, be it what it may."""
    asked = ("methods", "headers", "path")
    keyed = [
        (order(route, name, path), at)
        for at, route in enumerate(routes)
        for name in route["match"].get("domains", [None])
        for path in route["match"].get("path", [None])
        if name_matches(name, request.host)
        and conditions_hold({word: value for word, value in route["match"].items() if word not in asked}, request)
    ]
    return routes[min(keyed)[1]]["name"] if keyed else None


def written(routes: Sequence[Mapping[str, Any]]) -> str:
    """A routes.yaml: JSON is YAML."""
    return json.dumps({"listen": ["127.0.0.1", "127.0.0.2"], "routes": list(routes)})


def _subset(*values: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


NAMES = ("a.x", "b.x", "a.b.x", "x", "b.b.x")
PATHS = ("/", "/a", "/a/", "/a/b", "/b/a", "/a/b/c", "/b/")
_MATCHES = st.fixed_dictionaries(
    {"ports": st.just(PORT)},
    optional={
        "listen": st.just(["127.0.0.1"]),
        "domains": _subset("a.x", "b.x", "a.b.x", "*.x", "**.x", "*.b.x", "**.b.x", "re:a\\..*", "re:.*b\\.x"),
        "alpn": _subset("h2", "http/1.1"),
        "tls_versions": st.sampled_from([["TLSv1.2"], ["TLSv1.3"]]),
        "client_ips": _subset("10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24"),
        "path": _subset("/", "/a", "/a/b", "/a/*", "/*/a", "/*/b", "/a/**", "/**", "/*", "/*/*/c"),
        "methods": _subset("GET", "POST"),
        "headers": st.dictionaries(st.sampled_from("kl"), st.sampled_from(["1", "2", "re:[12]"]), min_size=1),
        "time": st.sampled_from([{"days": ["wed"], "zone": "UTC"}, {"days": ["mon"], "zone": "UTC"}]),
    },
)
_NARROW = st.fixed_dictionaries(
    {"ports": st.just(PORT), "path": _subset("/a/*", "/*/a", "/*/b", "/a/**", "/b/**", "/*", "/**")},
    optional={"domains": _subset("a.x", "re:a\\..*")},
)
_ROUTES = st.fixed_dictionaries(
    {
        "match": _MATCHES | _NARROW,
        "tls": st.just({"mode": "terminate"}),
        "protocol": st.just("http"),
        "action": st.just({"type": "respond"}),
    },
    optional={"priority": st.sampled_from([0, 0, 0, 1, -1])},
)


def _named(routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": f"r{at}", **route} for at, route in enumerate(routes)]


TABLES = st.lists(_ROUTES, min_size=1, max_size=7).map(_named).flatmap(st.permutations)
"""Routes under names of their own, in any order of the file; many of them differ in their paths alone."""
REQUESTS = st.builds(
    Request,
    host=st.sampled_from(NAMES),
    path=st.sampled_from(PATHS),
    method=st.sampled_from(["GET", "POST"]),
    headers=st.lists(st.tuples(st.sampled_from("kl"), st.sampled_from("123")), max_size=3).map(tuple),
    client=st.sampled_from(["10.0.0.1", "10.1.0.1", "192.0.2.1"]),
    local=st.sampled_from(["127.0.0.1", "127.0.0.2"]),
    alpn=st.sampled_from([(), ("http/1.1",), ("h2", "http/1.1")]),
    newest=st.sampled_from(["TLSv1.2", "TLSv1.3"]),
)
