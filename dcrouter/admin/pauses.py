"""`dcrouter queue pauses`, `pause` and `resume`: what does not leave as usual for a while, and an end to that."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from dcrouter.admin.client import ApiError, ask
from dcrouter.admin.places import mail_socket
from dcrouter.admin.report import duration, word

_WORDS = {"pause": "stands still", "slow_down": "slowed down", "bounce": "fails", "rotate": "not used there"}
_BY = {"operator": "by order", "on_reply": "by a reply", "bind": "by this host"}

WHAT = "all, or one of zone, domain, source, provider, host with its name: zone premium"


def add_pause_commands(command: Callable[[str, object, str], argparse.ArgumentParser]) -> None:
    """The commands, below `dcrouter queue`."""
    command("pauses", show_pauses, "print what stands still, is slowed down, fails or is not used, and until when")
    paused = command("pause", pause, "let mail of a zone, to a domain, from a source ... stand still; or all of it")
    paused.add_argument("what", nargs="+", metavar="WHAT", help=WHAT)
    paused.add_argument("--for", dest="seconds", metavar="TIME", help="for 30m, 2h ... [until it is resumed]")
    paused.add_argument("--reason", default="", metavar="TEXT", help="what to tell who asks")
    resumed = command("resume", resume, "end pauses, whoever ordered them; mail that waits for that is due at once")
    resumed.add_argument("what", nargs="*", metavar="WHAT", help="as `queue pauses` prints it")
    resumed.add_argument("--all", action="store_true", help="every pause that there is")


def show_pauses(arguments: argparse.Namespace) -> int:
    found = ask(mail_socket(arguments), "GET", "/queue/pauses")["pauses"]
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(pause_lines(found)))
    return 0


def pause(arguments: argparse.Namespace) -> int:
    wanted: dict[str, Any] = {"what": " ".join(arguments.what), "reason": arguments.reason}
    if arguments.seconds is not None:
        wanted["seconds"] = arguments.seconds
    made = ask(mail_socket(arguments), "POST", "/queue/pause", wanted)["paused"]
    print(json.dumps(made, indent=1) if arguments.json else "\n".join(pause_lines([made])))
    return 0


def resume(arguments: argparse.Namespace) -> int:
    if bool(arguments.what) == arguments.all:
        raise ApiError("resume what? Name it, or say --all")
    wanted = {"all": True} if arguments.all else {"what": " ".join(arguments.what)}
    lifted = ask(mail_socket(arguments), "POST", "/queue/resume", wanted)["lifted"]
    if arguments.json:
        print(json.dumps(lifted, indent=1))
    else:
        print(f"{len(lifted)} pause{'' if len(lifted) == 1 else 's'} ended")
    return 0


def pause_lines(found: list[dict[str, Any]]) -> Iterator[str]:
    """A line each, in the order in which they began."""
    if not found:
        yield "nothing is paused"
        return
    width = max(len(word(one["what"])) for one in found)
    for one in found:
        what = _WORDS[one["effect"]]
        if one["rate"] is not None:
            what += f" to {one['rate']['count']} in {duration(one['rate']['seconds'])}"
        end = "until it is resumed" if one["seconds"] is None else f"for another {duration(one['seconds'])}"
        since = datetime.fromtimestamp(one["since"], UTC).strftime("%Y-%m-%d %H:%M:%S")
        reason = f": {word(one['reason'])}" if one["reason"] else ""
        yield f"{word(one['what']).ljust(width)}  {what} {end}, since {since} UTC {_BY[one['by']]}{reason}"
