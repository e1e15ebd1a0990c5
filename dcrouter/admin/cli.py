"""The command line: `dcrouter COMMAND`. Answers go to standard output, complaints to standard error as `dcrouter: ...`.

Exit status 0: done, or the configuration is good. 1: it is not, or what was asked cannot be had. 2: wrong arguments.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, get_args

from dcrouter import __version__
from dcrouter.admin.bans import add_bans_command
from dcrouter.admin.ca import add_ca_command
from dcrouter.admin.certs import add_certs_commands
from dcrouter.admin.client import ask
from dcrouter.admin.control import add_control_commands
from dcrouter.admin.demo.tour import demo
from dcrouter.admin.explain import add_explain_command
from dcrouter.admin.passwd import passwd
from dcrouter.admin.places import PLACES, find_config, service_socket
from dcrouter.admin.queue import add_queue_commands
from dcrouter.admin.readable import problems_as
from dcrouter.admin.report import status_lines
from dcrouter.admin.suppression import add_suppression_command
from dcrouter.admin.table import draw, rows
from dcrouter.config.code import code_of
from dcrouter.config.findings import meant
from dcrouter.config.halves import Half
from dcrouter.config.load import load, load_with_warnings
from dcrouter.config.schema import json_schema
from dcrouter.control.privileges import find_account
from dcrouter.control.trial import tried
from dcrouter.errors import ConfigError, DcrouterError, StartError, reason_of

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO))
_PLACES = f"[./{PLACES[0]}, then {PLACES[1]}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    arguments, left = _parser().parse_known_args(argv)
    if left:
        arguments.parser.refuse(left)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of another encoding is no reason to fail
    try:
        status: int = arguments.act(arguments)
        print(end="", flush=True)
    except ConfigError as error:
        # As they are, with their place first: editors jump there.
        print(error, file=sys.stderr)
        return 1
    except DcrouterError as error:
        _complain(str(error).splitlines())
        return 1
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        _write_no_more()
        return 0
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        _complain([f"cannot write what there is to say: {reason_of(error).lower()}"])
        _write_no_more()
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _write_no_more() -> None:
    """What waits for standard output goes nowhere, else the interpreter fails with it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: argparse.Namespace) -> int:
    """Become the service: the same that twistd runs, with the same process id as the command."""
    source = find_config(arguments.config)
    only = ["--only", arguments.only] if arguments.only is not None else []
    _have_standard_streams()
    try:
        os.execv(sys.executable, [sys.executable, "-P", "-m", "dcrouter.tap", "--config", str(source), *only])
    except OSError as error:
        cause = reason_of(error).lower()
        raise StartError(
            f"{sys.executable} cannot be run: {cause}: install dcrouter with a Python that this user may run"
        ) from error


def _have_standard_streams() -> None:
    """Where one is closed (`>&-`), the first file that the service opens would be in its place, and written to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def check(arguments: argparse.Namespace) -> int:
    source = find_config(arguments.config if arguments.file is None else arguments.file)
    config, warnings = load_with_warnings(source, half=arguments.only)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.as_user:
        account = find_account(config.user, config.group)
        problems = problems_as(account, config, source)
        if problems:
            _complain(f"as user {account.name}: {problem}" if account is not None else problem for problem in problems)
            return 1
    codes = tuple(code_of(config.routes, config.email))
    if codes:
        problems = tried(codes, source.parent, find_account(config.user, config.group))
        if problems:
            _complain(problems)
            return 1
    counts = [_count(len(config.routes), "route")]
    if config.email is not None:
        counts += [_count(len(config.email.ports), "mail port"), _count(len(config.email.rules), "rule")]
    print(f"{source}: ok, {', '.join(counts)}")
    return 0


def schema(arguments: argparse.Namespace) -> int:
    print(json.dumps(json_schema(), indent=2))
    return 0


def routes(arguments: argparse.Namespace) -> int:
    table = rows(load(find_config(arguments.config if arguments.file is None else arguments.file), arguments.only))
    print(json.dumps(table, indent=1) if arguments.json else draw(table))
    return 0


def status(arguments: argparse.Namespace) -> int:
    answer = ask(service_socket(arguments), "GET", "/status")
    print(json.dumps(answer, indent=1) if arguments.json else "\n".join(status_lines(answer)))
    return 0


def usage(arguments: argparse.Namespace) -> int:
    """Which commands there are, for who has said none."""
    arguments.parser.print_help(sys.stderr)
    return 2


def version(arguments: argparse.Namespace) -> int:
    print(f"dcrouter {__version__}")
    return 0


class _Suggesting(argparse.ArgumentParser):
    """Answers a word that is none of those to choose from with the one it resembles. Its subparsers do likewise."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        # The innermost one stays: the command that was said.
        self.set_defaults(parser=self)

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """End with 2 for what the command does not know."""
        options = [option for action in self._actions for option in action.option_strings]
        hint = meant(words[0], options)
        if words[0].endswith((".yaml", ".yml")) and "--config" in options:
            hint = f" (did you mean --config {words[0]}?)"
        self.error(f"unrecognized arguments: {' '.join(words)}{hint}")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += meant(str(value), map(str, action.choices or ()))
            raise


def _parser() -> argparse.ArgumentParser:
    parser = _Suggesting(
        prog="dcrouter",
        description="Every connection finds its route, every message its recipient; from one routes.yaml.",
    )
    parser.add_argument("--version", action="version", version=f"dcrouter {__version__}")
    # Said before a verb or behind it (`certs --json renew NAME`): what was not said there must not undo it.
    parser.set_defaults(act=usage, config=None, socket=None, only=None, json=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, act: object, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(act=act)
        return added

    started = command("run", run, "start the service in the foreground")
    checked = command("check", check, "tell whether a configuration is good, and all that is wrong with it")
    checked.add_argument("--as-user", action="store_true", help="try whether `user` can read every file that it names")
    shown = command("routes", routes, "print the effective routes, in the order in which connections meet them")
    command("schema", schema, "print the JSON Schema of routes.yaml, for editors")
    asking = [command("status", status, "print what the running service does"), add_explain_command(command)]
    asking += [*add_control_commands(command), *add_certs_commands(command)]
    asking += [*add_bans_command(command), *add_suppression_command(command)]
    rooted = add_ca_command(command)
    queue = command("queue", usage, "the mail that waits or has failed: look at it, change it, back it up")
    queued, saved = add_queue_commands(queue)
    asking += queued
    hashed = command(
        "passwd", passwd, "make hash and SCRAM verifier of a password, for email.auth; asks, or reads a line"
    )
    hashed.add_argument("name", nargs="?", metavar="NAME", help="the account: print its line for users_file")
    toured = command("demo", demo, "start a router on free ports and try one of each kind of route, with timings")
    toured.add_argument("--keep", action="store_true", help="keep the directory that it makes")
    toured.add_argument("--stay", action="store_true", help="leave all running until Ctrl-C, to try it by hand")
    command("version", version, "print the version")

    def option(parsers: Iterable[argparse.ArgumentParser], *names: str, **how: Any) -> None:
        for one in parsers:
            one.add_argument(*names, **how, default=argparse.SUPPRESS)

    for one in (checked, shown):
        named = one.add_mutually_exclusive_group()
        named.add_argument("file", nargs="?", metavar="FILE", help=_PLACES)
        help = "the same, as other commands have it"
        named.add_argument("--config", "-c", metavar="FILE", default=argparse.SUPPRESS, help=help)
    option((started, *rooted, saved, *asking), "--config", "-c", metavar="FILE", help=_PLACES)
    option(asking, "--socket", metavar="PATH", help="the service's admin socket [as the configuration says]")
    halves = (started, checked, shown, *rooted, *asking)
    option(halves, "--only", choices=get_args(Half), help="where email.remote makes two services of one file: which")
    option((shown, *rooted, saved, *asking), "--json", action="store_true", help="for programs")
    return parser


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _complain(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"dcrouter: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
