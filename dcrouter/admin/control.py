"""`dcrouter reload`, `drain`, `connections`, `log-level`: what the operator does to the running service."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args
from urllib.parse import quote, urlencode

from dcrouter.admin.client import ApiError, ask
from dcrouter.admin.places import service_socket
from dcrouter.admin.report import aligned, duration, size, word
from dcrouter.config.admin import LogLevel
from dcrouter.errors import ConfigError
from dcrouter.wire.hostport import hostport

LOOK = 0.2
"""Seconds between two looks at a service that drains."""

_COLUMNS = ("session", "age", "route", "peer", "target", "in", "out", "phase", "sni")

Command = Callable[[str, object, str], argparse.ArgumentParser]
"""(name, what it does, help) -> its parser."""


def add_control_commands(command: Command) -> list[argparse.ArgumentParser]:
    """The parsers, which still want to know where the service is."""
    reloaded = command("reload", reload, "have the running service read its configuration again")
    drained = command("drain", drain, "stop the service when its connections have ended, and wait for it")
    drained.add_argument("--no-wait", action="store_true", help="do not wait until it has stopped")
    levelled = command("log-level", log_level, "say which lines are logged, until the next reload or restart")
    levelled.add_argument("level", choices=get_args(LogLevel), metavar="LEVEL", help=", ".join(get_args(LogLevel)))
    listed = command("connections", connections, "print the connections that are open, the oldest first; or end some")
    verbs = listed.add_subparsers(metavar="[COMMAND]", title="commands")
    killed = verbs.add_parser("kill", help="end these connections at once", description="end connections at once")
    killed.add_argument("ids", nargs="+", metavar="ID", help="as `connections` shows them")
    killed.set_defaults(act=kill)
    return [reloaded, drained, levelled, listed, killed]


def reload(arguments: argparse.Namespace) -> int:
    try:
        outcome = ask(service_socket(arguments), "POST", "/reload")
    except ApiError as error:
        if arguments.json and error.answer:
            print(json.dumps(error.answer, indent=1))
        if "problems" not in error.answer:
            raise
        raise ConfigError([*error.answer["problems"], "dcrouter: nothing has changed"]) from None
    for warning in outcome["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    text = f"reloaded in {outcome['seconds']:g} s: {outcome['changes']}"
    print(json.dumps(outcome, indent=1) if arguments.json else text)
    return 0


def drain(arguments: argparse.Namespace) -> int:
    socket = service_socket(arguments)
    answer = ask(socket, "POST", "/drain")
    if arguments.json:
        print(json.dumps(answer))
    else:
        timeout = answer["timeout"]
        print(f"draining: connections have {duration(timeout) if timeout else 'all time'} to end", flush=True)
    while not arguments.no_wait:
        try:
            ask(socket, "GET", "/status")
        except ApiError:
            break
        time.sleep(LOOK)
    return 0


def log_level(arguments: argparse.Namespace) -> int:
    answer = ask(service_socket(arguments), "POST", "/log-level", {"level": arguments.level})
    print(json.dumps(answer) if arguments.json else f"the log level is {answer['level']} now")
    return 0


def connections(arguments: argparse.Namespace) -> int:
    socket = service_socket(arguments)
    found: list[dict[str, Any]] = []
    silent = 0
    for role in ("edge", "mail", "handlers"):
        try:
            found += _all_of(socket, role)
        except ApiError as error:
            if not error.answer:
                raise
            print(f"dcrouter: {error}", file=sys.stderr)
            silent = 1
    found.sort(key=lambda one: -one["age"])
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(connection_lines(found)))
    return silent


def kill(arguments: argparse.Namespace) -> int:
    socket = service_socket(arguments)
    failed = 0
    for session in arguments.ids:
        try:
            ask(socket, "DELETE", f"/connections/{quote(session, safe='')}")
        except ApiError as error:
            print(f"dcrouter: {error}", file=sys.stderr)
            failed = 1
    return failed


def _all_of(socket: Any, role: str) -> Iterator[dict[str, Any]]:
    place: str | None = None
    while True:
        asked = {"role": role} if place is None else {"role": role, "after": place}
        try:
            answer = ask(socket, "GET", f"/connections?{urlencode(asked)}")
        except ApiError as error:
            if error.answer.get("error", "").startswith("there is no"):
                return
            raise
        yield from answer["connections"]
        place = answer["next"]
        if place is None:
            return


def connection_lines(found: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Aligned columns with a head."""
    lines = [_COLUMNS] + [
        (
            one["session"],
            duration(one["age"]),
            one["route"] or "-",
            hostport(*one["peer"]),
            one["target"] or "-",
            size(one["bytes_in"]),
            size(one["bytes_out"]),
            one["phase"] or "-",
            one["sni"] or "-",
        )
        for one in found
    ]
    yield from aligned([tuple(map(word, line)) for line in lines])
