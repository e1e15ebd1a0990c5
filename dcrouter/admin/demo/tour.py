"""The demo from its start to its end: everything that it makes is gone when it is over, also after Ctrl-C.

Exit status 0: every step went as it should. 1: one did not, or the router did not start; then its log is printed too.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import shutil
import signal
import smtplib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TextIO

from dcrouter.admin.demo.backends import MailServer, SecureWebServer, WebServer
from dcrouter.admin.demo.place import Place, Ports, free_ports
from dcrouter.admin.demo.router import COMMAND, NotReady, Router
from dcrouter.admin.demo.show import Screen, essence, sessions
from dcrouter.admin.demo.steps import Outcome, Step, steps
from dcrouter.errors import DcrouterError, StartError

STARTS = 3
"""Times that the router is started when somebody takes one of its ports in the moment before."""
STAY = 1.0
FAILURES = (OSError, DcrouterError, http.client.HTTPException, smtplib.SMTPException)


def demo(arguments: argparse.Namespace) -> int:
    """The command: `keep` keeps the directory, `stay` leaves all running until Ctrl-C."""
    return tour(sys.stdout, keep=arguments.keep, stay=arguments.stay)


def tour(out: TextIO, *, keep: bool = False, stay: bool = False, command: Sequence[str] = COMMAND) -> int:
    """All of it, told to `out`; the exit status. `command`: how the router is started."""
    screen = Screen(out)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_by_sigterm())
        place = stack.enter_context(_place(screen, keep=keep))
        web = WebServer()
        stack.callback(web.close)
        secure_web = SecureWebServer(place.certify_backend(), place.directory)
        stack.callback(secure_web.close)
        next_hop = MailServer()
        stack.callback(next_hop.close)
        backends = (web.port, secure_web.port, next_hop.port)
        try:
            router, ports = _started(stack, place, backends, command)
        except NotReady as error:
            screen.line(f"  {error}; what it wrote:")
            screen.block(place.router_log.read_text("utf-8", "replace"))
            return 1
        screen.title("dcrouter demo: one request or message through each kind of route")
        screen.facts(
            [
                ("configuration", str(place.config)),
                ("router", f"dcrouter run, pid {router.pid}, ready after {router.ready_after * 1000:.0f} ms"),
                ("listens on", f"http {ports.http}, https {ports.https}, smtp {ports.smtp} (127.0.0.1)"),
                ("backends", f"web {ports.web}, web with TLS {ports.secure_web}, next mail server {ports.next_hop}"),
            ]
        )
        planned = list(steps(place, ports, next_hop))
        outcomes = _walk(screen, planned)
        failed = [step.kind for step, outcome in outcomes if isinstance(outcome, Exception)]
        failed += _tell_sessions(screen, place, router, outcomes)
        screen.title("The same by hand" + ("" if stay else " (with `dcrouter demo --stay`, which leaves all running)"))
        for step in planned:
            screen.line(f"  {step.by_hand}")
        if failed:
            screen.title("What the router wrote")
            screen.block(router.log())
        if stay:
            _stay(screen, router)
        screen.title(f"Failed: {', '.join(failed)}." if failed else "All went well.")
        screen.line(f"  the router ended {router.stop() * 1000:.0f} ms after SIGTERM")
    return 1 if failed else 0


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, so that it too leaves nothing behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _place(screen: Screen, *, keep: bool) -> Iterator[Place]:
    try:
        directory = Path(tempfile.mkdtemp(prefix="dcrouter-demo-"))
    except OSError as error:
        raise StartError(f"no temporary directory can be made: {error}") from error
    try:
        yield Place(directory)
    finally:
        if keep:
            screen.line(f"  kept: {directory}")
        else:
            shutil.rmtree(directory)
            screen.line(f"  removed: {directory} (--keep keeps it)")


def _started(
    stack: contextlib.ExitStack, place: Place, backends: tuple[int, int, int], command: Sequence[str]
) -> tuple[Router, Ports]:
    """A router that is ready, and will be stopped by `stack`."""
    web, secure_web, next_hop = backends
    for start in range(1, STARTS + 1):
        http_port, https, smtp = free_ports(3)
        ports = Ports(http=http_port, https=https, smtp=smtp, web=web, secure_web=secure_web, next_hop=next_hop)
        place.write_config(ports)
        router = Router(place, command)
        stack.callback(router.stop)
        try:
            router.wait_until_ready()
        except NotReady as error:
            if not error.port_taken or start == STARTS:
                raise
        else:
            return router, ports
    raise AssertionError("the last start has returned or raised")


def _walk(screen: Screen, planned: Sequence[Step]) -> list[tuple[Step, Outcome | Exception]]:
    """Do every step, each whatever became of those before it."""
    kinds = max(len(step.kind) for step in planned)
    ways = max(len(step.way) for step in planned)
    outcomes: list[tuple[Step, Outcome | Exception]] = []
    screen.title("What a client sees")
    for step in planned:
        outcome: Outcome | Exception
        try:
            outcome = step.act()
        except FAILURES as error:
            outcome = error
        screen.step(step, outcome, kinds, ways)
        outcomes.append((step, outcome))
    return outcomes


def _tell_sessions(
    screen: Screen, place: Place, router: Router, outcomes: Sequence[tuple[Step, Outcome | Exception]]
) -> list[str]:
    """What the access log says of the steps that went well; the kinds of those of which it says nothing."""
    ports = {outcome.port: step.kind for step, outcome in outcomes if isinstance(outcome, Outcome)}
    found = sessions(place.access_log, ports)
    screen.title(f"What the router says about it ({place.access_log.relative_to(place.directory)})")
    rows = [("route", "target", "bytes in/out", "ended by", "phases, ms")]
    rows += [essence(found[port]) for port in ports if port in found]
    screen.table(rows)
    screen.title(f"and of the mail ({place.router_log.name})")
    for line in router.said_by("mail"):
        screen.line(f"  {line}")
    return [f"access log of {kind}" for port, kind in ports.items() if port not in found]


def _stay(screen: Screen, router: Router) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        screen.title("Everything stays as it is until Ctrl-C.")
        while not router.ended:
            router.wait(STAY)
    screen.line()
