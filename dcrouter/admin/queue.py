"""`dcrouter queue ...`: the mail that waits or has failed, for the operator. All but `backup` ask the service."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from dcrouter.admin.client import ApiError, ask
from dcrouter.admin.pauses import add_pause_commands
from dcrouter.admin.places import find_config, mail_socket
from dcrouter.admin.report import aligned, duration, word
from dcrouter.config.load import load
from dcrouter.mail.queue.backup import back_up
from dcrouter.wire.moments import utc

LISTED = 1000
"""Recipients that `list` shows unless told."""

PAGE = 1000
"""Those that are asked for at once."""

_STATES = ("queued", "deferred", "held", "failed")
_FILTERS = ("rule", "zone", "state", "sender", "recipient", "older")
_COLUMNS = ("message", "state", "tries", "received", "next try", "size", "sender", "recipient", "rule", "reply")
_DONE = {
    "retry": "due now",
    "hold": "held",
    "release": "released",
    "drop": "dropped",
    "reroute": "of another rule now",
    "bounce": "given up",
}


def add_queue_commands(queue: argparse.ArgumentParser) -> tuple[list[argparse.ArgumentParser], argparse.ArgumentParser]:
    """The parsers of the commands below `dcrouter queue`: those that ask the service, and the one that does not."""
    verbs = queue.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, act: object, help: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = verbs.add_parser(name, help=help, description=help)
        added.set_defaults(act=act, verb=name)
        return added

    listed = command("list", show_list, "print it, one line for each recipient, the oldest message first")
    _add_filters(listed)
    listed.add_argument("--limit", type=_count, default=LISTED, metavar="N", help=f"at most so many [{LISTED}]")
    command("show", show_message, "print one message: envelope, last replies, header").add_argument("id", metavar="ID")
    counted = command("stats", show_stats, "count it, by state, rule and domain")
    counted.add_argument("--top", type=_count, default=20, metavar="N", help="domains that have most [20]")
    aged = command("ages", show_ages, "count it, by domain and by how long ago it came")
    aged.add_argument("--top", type=_count, default=20, metavar="N", help="domains that have most [20]")
    for name, help in (
        ("retry", "have mail tried now"),
        ("hold", "keep mail from being tried until it is released"),
        ("release", "have mail that is held tried now"),
        ("drop", "remove mail for good; nobody is told"),
        ("reroute", "have mail belong to another rule, and tried now"),
        ("bounce", "give mail up: it fails, and its senders are told"),
    ):
        changed = command(name, change, help)
        changed.add_argument("ids", nargs="*", metavar="ID", help="messages, with all their recipients")
        if name == "reroute":
            changed.add_argument("--to", metavar="RULE", required=True, help="the name of a rule")
        if name == "bounce":
            changed.add_argument("--reply", metavar="TEXT", help="what senders are told, such as '550 5.7.1 No'")
        _add_filters(changed)
        changed.add_argument("--all", action="store_true", help="everything; needed where nothing else is given")
    add_pause_commands(command)
    asking = list(verbs.choices.values())
    saved = command("backup", backup, "copy the queue to a new directory, also while mail flows")
    saved.add_argument("directory", type=_directory, metavar="DIR")
    return asking, saved


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rule", metavar="NAME", help="of this rule")
    parser.add_argument("--zone", metavar="NAME", help="of this sending zone")
    parser.add_argument("--state", choices=_STATES, help="in this state")
    parser.add_argument("--sender", metavar="WHO", help="an address, a domain, a pattern with *, or <>")
    parser.add_argument("--recipient", metavar="WHO", help="an address, a domain or a pattern with *")
    parser.add_argument("--older", metavar="TIME", help="received longer ago than 1h, 2d ...")


def show_list(arguments: argparse.Namespace) -> int:
    found: list[dict[str, Any]] = []
    place: str | None = None
    while len(found) < arguments.limit:
        wanted = {**_filters(arguments), "limit": min(PAGE, arguments.limit - len(found))}
        if place is not None:
            wanted["after"] = place
        answer = ask(mail_socket(arguments), "GET", f"/queue?{urlencode(wanted)}")
        found += answer["messages"]
        place = answer["next"]
        if place is None:
            break
    lines = list_lines(found, filtered=bool(_filters(arguments)))
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(lines))
    if place is not None and not arguments.json:
        print(f"these are the first {len(found)}; there may be more: raise --limit", file=sys.stderr)
    return 0


def show_message(arguments: argparse.Namespace) -> int:
    shown = ask(mail_socket(arguments), "GET", f"/queue/{quote(arguments.id, safe='')}")["message"]
    print(json.dumps(shown, indent=1) if arguments.json else "\n".join(message_lines(shown)))
    return 0


def show_stats(arguments: argparse.Namespace) -> int:
    stats = ask(mail_socket(arguments), "GET", f"/queue/stats?{urlencode({'top': arguments.top})}")["stats"]
    now = time.time()
    print(json.dumps(stats, indent=1) if arguments.json else "\n".join(stats_lines(stats, now)))
    return 0


def show_ages(arguments: argparse.Namespace) -> int:
    answer = ask(mail_socket(arguments), "GET", f"/queue/ages?{urlencode({'top': arguments.top})}")
    lines = age_lines(answer["ages"], answer["total"], answer["minutes"])
    print(json.dumps(answer, indent=1) if arguments.json else "\n".join(lines))
    return 0


def change(arguments: argparse.Namespace) -> int:
    wanted: dict[str, Any] = {**_filters(arguments), "all": arguments.all}
    wanted |= {name: getattr(arguments, name) for name in ("to", "reply") if getattr(arguments, name, None) is not None}
    if arguments.ids:
        wanted["messages"] = arguments.ids
    if not arguments.ids and not _filters(arguments) and not arguments.all:
        raise ApiError(f"{arguments.verb} what? Name messages, or a filter, or say --all")
    changed = 0
    place: str | None = None
    while True:
        # Every request does a part, so that none of them takes long.
        answer = ask(mail_socket(arguments), "POST", f"/queue/{arguments.verb}", {**wanted, "after": place})
        changed += answer["changed"]
        place = answer["next"]
        _tell_progress(f"{changed} so far ..." if place is not None else "")
        if place is None:
            break
    if arguments.json:
        print(json.dumps({"changed": changed}))
    else:
        print(f"{changed} recipient{'' if changed == 1 else 's'} {_DONE[arguments.verb]}")
    return 0


def _tell_progress(text: str) -> None:
    """On one line of a terminal, which the next one takes the place of; elsewhere nothing."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def backup(arguments: argparse.Namespace) -> int:
    state = load(find_config(arguments.config)).state_dir
    made = back_up(state / "mail", arguments.directory)
    if arguments.json:
        print(json.dumps({"messages": made.messages, "files": made.files, "octets": made.octets, "left": made.left}))
    else:
        print(f"{made.messages} messages in {arguments.directory}, {made.files} of them in files of their own")
    return 0


def list_lines(messages: list[dict[str, Any]], *, filtered: bool = False) -> Iterator[str]:
    """The messages of GET /queue as a table. `filtered`: others may be there."""
    if not messages:
        yield "nothing in the queue is like that" if filtered else "the queue is empty"
        return
    rows = [
        (
            one["message"],
            one["state"],
            str(one["attempts"]),
            _instant(one["received"]),
            _instant(one["due"]),
            str(one["size"]),
            word(one["sender"]) or "<>",
            word(one["recipient"]),
            word(one["rule"]),
            word(": ".join(text for text in (one["why"], one["reply"]) if text)),
        )
        for one in messages
    ]
    yield from aligned([_COLUMNS, *rows])


def message_lines(message: dict[str, Any]) -> Iterator[str]:
    """The answer of GET /queue/ID."""
    yield f"message   {message['message']}"
    yield f"session   {word(message['session'])}"
    yield f"sender    {word(message['sender']) or '<>'}"
    yield f"received  {_instant(message['received'])}"
    yield f"size      {message['size']}"
    if message["spool"] is not None:
        yield f"file      {word(message['spool'])}"
    for one in message["recipients"]:
        yield ""
        when = f", next try {_instant(one['due'])}" if one["due"] is not None else f" since {_instant(one['since'])}"
        yield f"recipient {word(one['recipient'])}"
        yield f"  rule    {word(one['rule'])}"
        yield f"  state   {one['state']}{when}, {one['attempts']} tries"
        if one["why"]:
            yield f"  why     {one['why']}"
        if one["reply"]:
            yield f"  reply   {word(one['reply'])}"
        for name in ("priority", "zone", "source", "notify", "original"):
            if one[name]:
                yield f"  {name:<7} {word(str(one[name]))}"
    if message["more"]:
        yield ""
        yield "and more recipients: dcrouter queue list"
    yield ""
    yield from (word(line.expandtabs()) for line in message["header"].splitlines())


def stats_lines(stats: dict[str, Any], now: float) -> Iterator[str]:
    """The answer of GET /queue/stats."""
    yield f"messages: {stats['messages']}, {stats['octets']} bytes, the largest {stats['largest']}"
    yield "recipients: " + ", ".join(f"{state} {stats[state]}" for state in _STATES)
    if stats["oldest"] is not None:
        yield f"oldest: {duration(max(now - stats['oldest'], 0.0))}"
    if stats["rules"]:
        yield ""
        rows = [(word(rule), *(str(counts[state]) for state in _STATES)) for rule, counts in stats["rules"].items()]
        yield from aligned([("rule", *_STATES), *rows])
        yield ""
        yield from aligned(
            [("domain", "recipients"), *((word(name), str(count)) for name, count in stats["domains"].items())]
        )


def age_lines(ages: list[dict[str, Any]], total: list[int], minutes: list[int]) -> Iterator[str]:
    """The answer of GET /queue/ages: how many recipients of each domain came so many minutes ago at most."""
    if not ages:
        yield "the queue is empty"
        return
    head = ("domain", "all", *(f"{one} m" for one in minutes), f"{minutes[-1]} m+")
    rows = [("total", total), *((word(one["domain"]), one["recipients"]) for one in ages)]
    others = [whole - sum(column) for whole, *column in zip(total, *(one["recipients"] for one in ages), strict=True)]
    if any(others):
        rows.append(("others", others))
    yield from aligned([head, *((name, *map(str, (sum(counts), *counts))) for name, counts in rows)])


def _filters(arguments: argparse.Namespace) -> dict[str, str]:
    return {name: value for name in _FILTERS if (value := getattr(arguments, name)) is not None}


def _instant(value: float | None) -> str:
    return "-" if value is None else utc(value)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 1")
    return int(text)


def _directory(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the name of a directory is needed, this one is empty")
    return Path(text)
