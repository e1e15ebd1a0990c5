"""`dcrouter certs renew` and `certs revoke`: what is begun is followed to its end, and the exit status tells which.

1. Each name is asked for; one that is refused does not stop the others.
2. Those that an authority has to issue are followed, for `--wait` seconds: each step is printed, then the outcome.
   What is not done by then goes on in the service.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attrs import define, field

from dcrouter.admin.client import ApiError, ask
from dcrouter.admin.places import service_socket
from dcrouter.admin.report import word
from dcrouter.config import units

WAIT = "10m"
"""As long as a patient authority takes: it may look for 3 minutes, and make the certificate for 5."""
PAUSE = 0.25
"""Seconds between two questions."""


def add_acting(verb: argparse.ArgumentParser) -> None:
    """What both verbs take."""
    verb.add_argument("names", nargs="+", metavar="NAME", help="as `certs` shows them")
    help = f"for the outcome, at most [{WAIT}]; 0s: not at all"
    verb.add_argument("--wait", type=_seconds, default=_seconds(WAIT), metavar="TIME", help=help)


def renew(arguments: argparse.Namespace) -> int:
    return _act(arguments, "renew")


def revoke(arguments: argparse.Namespace) -> int:
    return _act(arguments, "revoke")


@define
class _Outcome:
    """Of one name. `done`: how it has ended, in words; `problem`: why it has not been done, or not wholly."""

    name: str
    done: list[str] = field(factory=list)
    problem: str = ""
    not_after: float | None = None

    def to_plain(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "done": self.done,
            "problem": self.problem or None,
            "not_after": self.not_after,
        }


def _act(arguments: argparse.Namespace, verb: str) -> int:
    socket = service_socket(arguments)
    quiet = arguments.json
    outcomes: dict[str, _Outcome] = {}
    ordered = []
    for name in dict.fromkeys(one.lower() for one in arguments.names):
        outcome = outcomes[name] = _Outcome(name)
        try:
            answer = ask(socket, "POST", f"/certificates/{verb}", {"name": name})
        except ApiError as error:
            _failed(outcome, str(error), quiet)
            continue
        for what in ("renewed", "revoked"):
            if answer.get(what):
                _done(outcome, what, quiet)
        if answer.get("ordered"):
            _done(outcome, "ordered", quiet)
            ordered.append(outcome)
    if arguments.wait:
        _follow(socket, ordered, time.monotonic() + arguments.wait, quiet)
    if arguments.json:
        print(json.dumps([outcome.to_plain() for outcome in outcomes.values()], indent=1))
    return int(any(outcome.problem for outcome in outcomes.values()))


def _follow(socket: Path, ordered: list[_Outcome], until: float, quiet: bool) -> None:
    """Until each has ended, or time is up."""
    told = {outcome.name: 0 for outcome in ordered}
    while ordered:
        for outcome in tuple(ordered):
            try:
                order = ask(socket, "GET", f"/certificates/order?name={quote(outcome.name)}")
            except ApiError as error:
                _failed(outcome, f"what comes of it cannot be told: {error}", quiet)
                ordered.remove(outcome)
                continue
            for step in order["steps"][told[outcome.name] :]:
                _say(outcome.name, step.removeprefix(f"{outcome.name}: "), quiet)
            told[outcome.name] = len(order["steps"])
            if order["state"] == "issued":
                outcome.not_after = order["not_after"]
                _done(outcome, "issued", quiet)
            elif order["state"] == "failed":
                _failed(outcome, order["problem"], quiet)
            else:
                continue
            ordered.remove(outcome)
        if time.monotonic() >= until:
            for outcome in ordered:
                _failed(outcome, "not done yet; it goes on, and `dcrouter certs` shows what comes of it", quiet)
            return
        if ordered:
            time.sleep(PAUSE)


def _done(outcome: _Outcome, what: str, quiet: bool) -> None:
    outcome.done.append(what)
    ending = ""
    if outcome.not_after is not None:
        ending = time.strftime(", valid until %Y-%m-%d %H:%M", time.gmtime(outcome.not_after))
    _say(outcome.name, what + ending, quiet)


def _say(name: str, words: str, quiet: bool) -> None:
    if not quiet:
        print(f"{word(name)}: {word(words)}", flush=True)


def _failed(outcome: _Outcome, problem: str, quiet: bool) -> None:
    outcome.problem = problem
    if not quiet:
        # The service says of which name it is, where it knows that.
        named = problem if outcome.name in problem else f"{outcome.name}: {problem}"
        print(f"dcrouter: {word(named)}", file=sys.stderr, flush=True)


def _seconds(text: str) -> float:
    try:
        return units.duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
