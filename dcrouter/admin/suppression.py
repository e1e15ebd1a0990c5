"""`dcrouter suppression`: the addresses out in the world to which nothing is sent, and why."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from dcrouter.admin.client import ApiError, ask, pages
from dcrouter.admin.control import Command
from dcrouter.admin.places import mail_socket
from dcrouter.admin.report import duration, word
from dcrouter.config import units


def add_suppression_command(command: Command) -> list[argparse.ArgumentParser]:
    """The parsers, which still want to know where the service is."""
    parser = command("suppression", list_suppressed, "print to which addresses nothing is sent, and why; change it")
    verbs = parser.add_subparsers(metavar="[COMMAND]", title="commands")
    listed = verbs.add_parser("list", help="print them", description="print them, with the reason and the end")
    listed.set_defaults(act=list_suppressed)
    added = verbs.add_parser("add", help="send nothing there", description="send nothing there any more")
    added.set_defaults(act=add_addresses)
    added.add_argument("--for", dest="time", metavar="TIME", help="such as 7d [for ever]")
    removed = verbs.add_parser("remove", help="send there again", description="forget why nothing is sent there")
    removed.set_defaults(act=remove_addresses)
    for one in (added, removed):
        one.add_argument("addresses", nargs="+", metavar="ADDRESS")
    return [parser, listed, added, removed]


def list_suppressed(arguments: argparse.Namespace) -> int:
    found = list(pages(mail_socket(arguments), "/suppression", "suppressed"))
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(lines(found, time.time())))
    return 0


def add_addresses(arguments: argparse.Namespace) -> int:
    try:
        seconds = units.duration(arguments.time) if arguments.time is not None else 0.0
    except ValueError as error:
        print(f"dcrouter: --for: {error}", file=sys.stderr)
        return 1
    socket = mail_socket(arguments)
    return _each(
        arguments, lambda address: ask(socket, "POST", "/suppression", {"address": address, "seconds": seconds})
    )


def remove_addresses(arguments: argparse.Namespace) -> int:
    socket = mail_socket(arguments)
    return _each(arguments, lambda address: ask(socket, "DELETE", f"/suppression/{quote(address, safe='')}"))


def lines(found: Iterable[dict[str, Any]], now: float) -> Iterator[str]:
    """A line each."""
    rows = list(found)
    width = max((len(word(one["address"])) for one in rows), default=0)
    kinds = max((len(one["why"]) for one in rows), default=0)
    for one in rows:
        left = "for ever" if one["until"] is None else f"for another {duration(max(one['until'] - now, 0.0))}"
        since = ""
        if one["since"] is not None:
            since = datetime.fromtimestamp(one["since"], UTC).strftime(", since %Y-%m-%d %H:%M:%S UTC")
        yield f"{word(one['address']).ljust(width)}  {one['why'].ljust(kinds)}  {left}{since}"
    if not rows:
        yield "nobody is suppressed"


def _each(arguments: argparse.Namespace, act: Any) -> int:
    """Exit status 1 where one of the addresses was refused; the others are done all the same."""
    done: list[str] = []
    failed = 0
    for address in arguments.addresses:
        try:
            done.append(act(address)["address"])
        except ApiError as error:
            print(f"dcrouter: {error}", file=sys.stderr)
            failed = 1
    if done or arguments.json:
        print(json.dumps({"addresses": done}) if arguments.json else "\n".join(map(word, done)))
    return failed
