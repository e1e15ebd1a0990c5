"""Code of the operator's own that a configuration names, which runs in a process of its own: see extensions.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from attrs import frozen

from dcrouter.config.actions import Forward, Handler
from dcrouter.config.mail import Email
from dcrouter.config.routes import Route


@frozen(kw_only=True)
class Code:
    """`name`: `package.module:attribute`. `where`: the key that says it."""

    kind: Literal["factory", "select"]
    name: str
    where: str

    @property
    def module(self) -> str:
        return self.name.partition(":")[0]

    @property
    def attribute(self) -> str:
        return self.name.partition(":")[2]


def code_of(routes: Iterable[Route], email: Email | None) -> Iterator[Code]:
    """All that enabled routes and egress rules name, a name as often as it is said."""
    for route in routes:
        if route.enabled and isinstance(route.action, Handler):
            yield Code(kind="factory", name=route.action.factory, where=f"route {route.name}: action.factory")
        elif route.enabled and isinstance(route.action, Forward) and route.action.select is not None:
            yield Code(kind="select", name=route.action.select, where=f"route {route.name}: action.select")
    for number, rule in enumerate(email.egress if email is not None and email.remote is None else ()):
        if rule.enabled and rule.select is not None:
            yield Code(kind="select", name=rule.select, where=f"email.egress[{number}].select")


def needs_handlers(routes: Iterable[Route], email: Email | None) -> bool:
    """Whether there is anything to do for the process that runs such code."""
    return any(True for _ in code_of(routes, email))


def of_handlers(routes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of routes as plain values, those that it has to know."""
    return [route for route in routes if "factory" in route["action"] or route["action"].get("select") is not None]
