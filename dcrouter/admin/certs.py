"""`dcrouter certs`, and what DNS must say of them: `dcrouter dns`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from dcrouter.admin.client import ApiError, ask
from dcrouter.admin.control import Command
from dcrouter.admin.orders import add_acting, renew, revoke
from dcrouter.admin.places import service_socket
from dcrouter.admin.report import aligned, duration, word

_COLUMNS = ("name", "from", "issuer", "key", "not after", "renewal", "back-off", "last error")
_ACCOUNT_KEYS = "have our accounts with authorities given other keys: after one may have been read"
LONGEST_ERROR = 100
"""Characters of an error in the table; `--json` has all of it."""


def add_certs_commands(command: Command) -> list[argparse.ArgumentParser]:
    """The parsers, which still want to know where the service is."""
    shown = command("certs", certs, "print the certificates, and when they are renewed; or renew or revoke some")
    verbs = shown.add_subparsers(metavar="[COMMAND]", title="commands")
    acting = []
    for verb, act, help in (
        ("renew", renew, "have them made anew now, and wait for the outcome"),
        ("revoke", revoke, "have them declared invalid by who issued them, and others made in their place"),
    ):
        added = verbs.add_parser(verb, help=help, description=help)
        added.set_defaults(act=act)
        add_acting(added)
        acting.append(added)
    changed = verbs.add_parser("account-keys", help=_ACCOUNT_KEYS, description=_ACCOUNT_KEYS)
    changed.set_defaults(act=account_keys)
    told = command("dns", dns, "print the DNS records that there should be")
    return [shown, *acting, changed, told]


def certs(arguments: argparse.Namespace) -> int:
    found = ask(service_socket(arguments), "GET", "/certificates")["certificates"]
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(certificate_lines(found, time.time())))
    return 0


def account_keys(arguments: argparse.Namespace) -> int:
    try:
        changed, problem = ask(service_socket(arguments), "POST", "/certificates/account-keys", {})["changed"], None
    except ApiError as error:
        changed, problem = error.answer.get("changed", []), str(error)
    if arguments.json:
        print(json.dumps({"changed": changed, "problem": problem}, indent=1))
        return int(problem is not None)
    for word_of_directory in changed:
        print(f"{word(word_of_directory)}: our account has another key")
    if problem is None and not changed:
        print("there is no account with any authority")
    if problem is not None:
        print(f"dcrouter: {word(problem)}", file=sys.stderr)
    return int(problem is not None)


def dns(arguments: argparse.Namespace) -> int:
    found = ask(service_socket(arguments), "GET", "/dns")["records"]
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(record_lines(found, time.time())))
    return 0


def certificate_lines(found: Iterable[dict[str, Any]], now: float) -> Iterator[str]:
    """Aligned columns with a head; `now`: UTC epoch seconds."""
    lines = [_COLUMNS] + [
        (
            ", ".join(one["names"][:2]) + (f" and {len(one['names']) - 2} more" if len(one["names"]) > 2 else ""),
            one["source"],
            one["issuer"] or "-",
            one["key"] or "-",
            _day(one["not_after"], now),
            _day(one["next_renewal"], now),
            _day(one["back_off_until"], now),
            (one["last_error"] or "-")[:LONGEST_ERROR],
        )
        for one in found
    ]
    yield from aligned([tuple(map(word, line)) for line in lines])


def record_lines(found: Iterable[dict[str, Any]], now: float) -> Iterator[str]:
    """As they stand in a zone file, with a remark; `now`: UTC epoch seconds."""
    for one in found:
        remark = "in use"
        if one["use"] == "next":
            remark = "next key: publish it beside the other"
            if one["ripe"] is not None:
                wait = one["ripe"] - now
                since = "published; " if one["published"] else ""
                when = f"not before {duration(wait)} from now" if wait > 0 else "from the next renewal on"
                remark = f"next key: {since}used {when}"
        yield f"{one['name']} IN {one['type']} {one['value']} ; {remark}"


def _day(instant: float | None, now: float) -> str:
    """The day, or the minute where that is near."""
    if instant is None:
        return "-"
    near = abs(instant - now) < 2 * 86400
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%d %H:%M" if near else "%Y-%m-%d")
