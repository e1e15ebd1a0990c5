"""Whether the operator's own code can be loaded: tried in a process of its own, so that what it does, be it to hang or
to end, is done there. `python -m dcrouter.control.trial` is that process.

A service that runs is asked only after this, and a start needs no process that fails again and again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import asdict
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool

from dcrouter.config.code import Code
from dcrouter.control.child import environment
from dcrouter.control.privileges import Account, drop, is_root
from dcrouter.errors import ConfigError, StartError
from dcrouter.extensions import Extensions

WITHIN = 20
"""Seconds for all of it."""


def tried(codes: Iterable[Code], folder: Path, account: Account | None = None) -> list[str]:
    """What is wrong with them, a line each; blocks for up to WITHIN. Root becomes `account` before it imports."""
    wanted = list(codes)
    if not wanted:
        return []
    become = asdict(account) if account is not None and is_root() else None
    codes_plain = [asdict(code) for code in wanted]
    asked = json.dumps({"codes": codes_plain, "folder": str(folder.absolute()), "account": become})
    try:
        done = subprocess.run(
            (sys.executable, "-P", "-m", "dcrouter.control.trial"),
            input=asked.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            timeout=WITHIN,
            check=False,
        )
        problems: list[str] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return [f"{_all(wanted)}: not imported within {WITHIN} s"]
    except ValueError:
        cause = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
        return [f"{_all(wanted)}: the process that imports it ends at once ({cause})"]
    except OSError as error:
        return [f"{_all(wanted)}: cannot be tried: {error.strerror}"]
    return problems


def tried_beside(reactor: Any, codes: Iterable[Code], folder: Path) -> Deferred[list[str]]:
    """The same while the reactor goes on."""
    wanted = tuple(codes)
    if not wanted:
        return succeed([])
    found: Deferred[list[str]] = deferToThreadPool(reactor, reactor.getThreadPool(), tried, wanted, folder)
    return found


def _all(wanted: Iterable[Code]) -> str:
    return ", ".join(dict.fromkeys(code.name for code in wanted))


def main() -> None:
    """Answers on standard output, which foreign code does not get."""
    signal.alarm(WITHIN + 5)
    answer = os.dup(1)
    os.dup2(2, 1)
    asked: dict[str, Any] = json.load(sys.stdin)
    problems: tuple[str, ...] = ()
    try:
        if asked["account"] is not None:
            drop(Account(**{**asked["account"], "groups": tuple(asked["account"]["groups"])}))
        extensions = Extensions()
        extensions.use_folder(Path(asked["folder"]))
        extensions.load(Code(**code) for code in asked["codes"])
    except (ConfigError, StartError) as error:
        problems = tuple(str(error).splitlines())
    os.write(answer, json.dumps(problems).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
