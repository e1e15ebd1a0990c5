"""`dcrouter bans`: which addresses may not log in to send mail for a while, and an end to that."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from dcrouter.admin.client import ApiError, ask, pages
from dcrouter.admin.control import Command
from dcrouter.admin.places import mail_socket
from dcrouter.admin.report import duration, word


def add_bans_command(command: Command) -> list[argparse.ArgumentParser]:
    """The parsers, which still want to know where the service is."""
    parser = command("bans", list_bans, "print who is banned from logging in to send mail; or lift bans")
    verbs = parser.add_subparsers(metavar="[COMMAND]", title="commands")
    listed = verbs.add_parser("list", help="print them", description="print who is banned, and for how long")
    listed.set_defaults(act=list_bans)
    cleared = verbs.add_parser("clear", help="lift these, or all", description="lift these bans, or all of them")
    cleared.add_argument("addresses", nargs="*", metavar="ADDRESS", help="as `bans list` shows them [all]")
    cleared.set_defaults(act=clear_bans)
    return [parser, listed, cleared]


def list_bans(arguments: argparse.Namespace) -> int:
    found = list(pages(mail_socket(arguments), "/bans", "bans"))
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(ban_lines(found)))
    return 0


def clear_bans(arguments: argparse.Namespace) -> int:
    """Exit status 1 where one of the addresses is not banned; the others are lifted all the same."""
    socket = mail_socket(arguments)
    lifted = failed = 0
    for target in [f"/bans/{quote(address, safe='')}" for address in arguments.addresses] or ["/bans"]:
        try:
            lifted += ask(socket, "DELETE", target)["lifted"]
        except ApiError as error:
            print(f"dcrouter: {error}", file=sys.stderr)
            failed = 1
    print(json.dumps({"lifted": lifted}) if arguments.json else f"{lifted} ban{'' if lifted == 1 else 's'} lifted")
    return failed


def ban_lines(found: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A line each, the shortest first."""
    bans = sorted(found, key=lambda one: float(one["seconds"]))
    width = max((len(word(one["address"])) for one in bans), default=0)
    for one in bans:
        yield f"{word(one['address']).ljust(width)}  for another {duration(one['seconds'])}"
    if not bans:
        yield "nobody is banned"
